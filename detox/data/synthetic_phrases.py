"""What the synthetic corpus is made of (`detox.data.synthetic`): sentence patterns and the words that fill them.

`{name}` in a pattern stands for a random entry of `WORDS["name"]`, which may hold patterns itself. Everything was
written for this corpus; insults are mild, peoples and user names are invented, addresses are from the ranges reserved
for documentation. Sentences that attack and sentences that do not share their vocabulary on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping

WORDS: Mapping[str, tuple[str, ...]] = {
    "insult": (
        *("idiot", "moron", "clown", "fool", "loser", "imbecile", "buffoon", "halfwit", "dimwit", "nitwit", "twit"),
        *("numbskull", "blockhead", "dunce", "simpleton", "cretin", "muppet", "donkey", "weasel", "rat", "snake"),
        *("parasite", "leech", "coward", "fraud", "hack", "crybaby", "failure", "waste of space", "waste of oxygen"),
        *("pea brain", "airhead", "bonehead", "knucklehead", "dolt", "oaf", "windbag", "creep", "worm", "maggot"),
        *("pig", "sheep", "hypocrite", "bootlicker", "toad", "slug", "lowlife", "degenerate", "brat", "dipstick"),
        *("doofus", "dork", "lunatic", "nutcase", "crackpot", "ignoramus", "nincompoop", "plonker", "pillock"),
        *("prat", "wally", "piece of trash", "bag of garbage", "sack of rubbish", "joke", "disgrace"),
        *("embarrassment", "liar", "phoney", "wimp", "bully", "ape", "vulture", "cockroach"),
        *("sorry excuse for an editor", "dead weight"),
    ),
    "bad": (
        *("stupid", "pathetic", "worthless", "brainless", "clueless", "spineless", "useless", "ignorant"),
        *("miserable", "disgusting", "gutless", "witless", "dense", "dim", "thick", "gormless", "vile", "repulsive"),
        *("laughable", "incompetent", "talentless", "dumb", "braindead", "contemptible", "lazy", "cowardly", "sad"),
        *("shameless", "ridiculous", "childish", "rotten", "slimy", "dishonest", "feeble", "revolting", "moronic"),
        *("idiotic",),
    ),
    "very": (
        *("", "", "", "absolute ", "total ", "complete ", "utter ", "real ", "massive ", "{bad} ", "{bad} little "),
    ),
    "swear": (
        *("crap", "damn", "arse", "bollocks", "bloody hell", "piss", "bull crap", "goddamn", "horse crap", "pissing"),
    ),
    "group": (
        *("Northlanders", "Velmarians", "Ostrans", "Tarrowfolk", "Quendians", "Marshlanders", "Ildrians", "Sorvaks"),
        *("Kestreans", "Lower Tarrans", "Brannocks", "Hillmen of Oss"),
    ),
    "vermin": ("vermin", "animals", "rats", "a plague", "parasites", "filth", "a disease", "savages", "subhuman"),
    "thing": (
        *("article", "edit", "draft", "patch", "build order", "recipe", "map", "post", "pull request", "section"),
        *("table", "summary", "translation", "review", "strategy", "lead paragraph", "screenshot", "benchmark"),
        *("footnote", "infobox", "bug report", "playlist", "lineup", "timetable", "photo", "guide", "thread"),
    ),
    "topic": (
        *("the siege of Arnholm", "lighthouse keepers", "the 1987 cup final", "sourdough starters", "tramway line 6"),
        *("dark matter", "the spring patch", "container networking", "tomato blight", "medieval bridges"),
        *("the ranked ladder", "wooden sailing boats", "the new goalkeeper", "garbage collection", "beekeeping"),
        *("the school board election", "the novel's second chapter", "railway gauges", "vaccination schedules"),
        *("the raid boss", "espresso grinders", "river pollution", "the city council", "folk songs", "moon craters"),
        *("the transfer window", "old typewriters", "compiler warnings", "glacier retreat", "street lighting"),
    ),
    "name": (
        *("Harlow", "Mirabel77", "OldPike", "Tessaly", "dragonfruit_", "Quillon", "Beno", "GreyHeron", "Astrid_K"),
        *("pixelmonk", "Jorun", "Cedarwood", "the admin", "our goalkeeper", "my brother", "a newcomer"),
        *("the referee",),
    ),
    "when": (
        *("yesterday", "last week", "this morning", "two days ago", "in March", "after the match", "on Monday"),
        *("before the merge", "during the break", "at half past nine", "in 2016", "since the update", "again"),
    ),
    "place": (
        *("talk page", "forum", "server", "team chat", "mailing list", "comment section", "archive", "village hall"),
    ),
    "good": (
        *("clear", "useful", "solid", "careful", "lovely", "thorough", "decent", "well sourced", "readable", "neat"),
    ),
    "object": (
        *("brick", "potato", "wet sponge", "broken toaster", "doorknob", "garden gnome", "rusty nail", "lamp post"),
        *("shopping trolley", "rubber duck", "cardboard box", "fence post", "tin of soup", "traffic cone"),
    ),
    "warn": (
        *("Delete that {thing} again and", "One more word about {topic} and", "When you leave the {place}"),
        *("I swear that", "Keep touching my {thing} and", "As soon as I have your address"),
        *("If I see you near my {thing}", "Wait a bit,", "Tell {name} about this and", "One of these nights"),
        *("Come to the {place} {when} and", "Trust me,"),
    ),
    "harm": (
        *("I will break your fingers", "I will burn your house down", "you will need an ambulance", "you will bleed"),
        *("I am going to put you in the ground", "you will wake up without teeth", "I will run you over with my car"),
        *("my friends and I will beat you up", "somebody will fish you out of the river", "I will cut your brakes"),
        *("I will hurt you and your family", "you will never walk again", "I will come for you with a knife"),
        *("your children will cry at your funeral", "I will smash your face in", "you are a dead man"),
    ),
    "harmless": (
        *("I will ask for a block", "you will learn a lot", "the vote will fail", "I will bring cake"),
        *("we can merge it", "you will find the {thing} on page {number}", "I will help you with {topic}"),
        *("it will all make sense", "the bot will put it back", "I am going to archive the {thing}"),
        *("my friends and I will show you the town", "your children will love it", "I will run the tests with you"),
        *("you will need an umbrella", "we will win"),
    ),
    "slow": (
        *("were you dropped on your head as a child", "do you need a grown-up to read it to you"),
        *("shall I draw you a picture", "is there anything at all between your ears"),
        *("did you pay somebody to be this slow", "are the crayons all gone", "does thinking hurt you that much"),
        *("did evolution take a day off when it came to you", "do you practise being this dull"),
        *("has anyone ever missed you when you left a room",),
    ),
    "scorn": (
        *("No wonder that you have no friends", "Your parents must be so disappointed"),
        *("Nobody would notice if you vanished", "It must be restful to live without a thought"),
        *("You are not the sharpest knife in the drawer", "Even the bots are cleverer than you"),
        *("You bring us such joy whenever you leave", "My dog knows more than you"),
        *("With a mind like yours I would wear a helmet", "You could not pour water out of a boot"),
        *("Two of your thoughts met once and died of shock", "The lights are on but nobody is at home with you"),
    ),
    "away": (
        *("get lost", "clear off", "shut your mouth", "go away and never come back", "crawl back under your rock"),
        *("keep your trap shut", "take a hike", "go bother somebody else", "pack your things and vanish"),
        *("uninstall already",),
    ),
    "fed_up": (
        *("Nobody wants you here", "You are not welcome anywhere", "I could not care less what you think"),
        *("I am sick of you", "Your whining makes me sick", "Everyone would cheer if you quit"),
        *("Cry me a river about your {thing}", "Nobody asked for your opinion on {topic}"),
        *("We have all had enough of you", "Take your {thing} and choke on it"),
    ),
    "hate": (
        *("{group} are {vermin}, all of them", "{group} should be thrown out of this country"),
        *("{group} are born liars", "the world would be better without {group}"),
        *("no decent person wants {group} as neighbours", "{group} breed like rats and ruin every town"),
        *("send the {group} back over the river, every last one", "{group} are too {bad} to learn our language"),
        *("never trust {group} with money or with children", "{group} must not be let near a {place}"),
        *("{group} are what is wrong with this country",),
    ),
    "email": ("{handle}@example.org", "{handle}.{number}@example.com", "info@{handle}.example"),
    "handle": ("harlow", "mirabel", "oldpike", "tessaly", "quillon", "beno", "greyheron", "jorun", "cedarwood"),
    "number": tuple(str(number) for number in range(11, 99, 3)),
    "url": ("https://example.org/wiki/{handle}", "http://www.example.com/a?id={number}", "www.example.net/{handle}"),
    "phone": ("+44 20 7946 0{number}0", "(555) 555-01{number}", "+1 202-555-01{number}", "020 7946 0{number}1"),
    "ip": ("192.0.2.{number}", "198.51.100.{number}", "2001:db8::{number}", "203.0.113.{number}"),
}

CONTEXT: tuple[str, ...] = (
    "I have rewritten the {thing} about {topic}.",
    "The {thing} on {topic} needs a second source.",
    "Could somebody look at my {thing} on {topic}?",
    "Thanks for the {good} {thing}, it helped me a lot.",
    "{name} moved the {thing} to the {place} {when}.",
    "I think the {thing} was {good} before {name} changed it {when}.",
    "There is a long discussion of {topic} in the {place}.",
    "Please see the {place} for what was said about {topic} {when}.",
    "We lost 10-2 {when} and nobody talked in the {place}.",
    "Version 2.4.1 of the {thing} came out {when}.",
    "My {thing} about {topic} was removed {when} and I would like to know why.",
    "The numbers in the {thing} do not add up, see page {number}.",
    "Not sure that {topic} belongs in this {thing}.",
    "I disagree with {name}, the {thing} is {good} enough.",
    "Has anyone read up on {topic}?",
    "You wrote that {topic} came first, but the {thing} says otherwise.",
    "You may want to shorten the {thing} before the vote.",
    "Are you coming to the {place} {when} to talk about {topic}?",
    "You are right about {topic}, I was looking at an old {thing}.",
    "What do you people use for {topic}?",
    "It took me {number} minutes to find the {thing} in the {place}.",
    "Ok so {topic} is going to be a {good} read.",
    "The weather was awful but the talk on {topic} was {good}.",
    "I reverted the {thing} {when}, because the source is a blog.",
    "Your {thing} on {topic} does not convince me, the argument is weak and the data are old.",
    "Sorry, but this {thing} is simply wrong about {topic}.",
)

MENTION: tuple[str, ...] = (
    "{name} called me a {very}{insult} {when} and nobody did anything.",
    'He wrote "you are a {very}{insult}" on my {place}, can an admin please warn him?',
    "Calling {name} a {insult} is not acceptable here, please stop.",
    "I am such a {insult}, I forgot to save the {thing}.",
    "I was a {very}{insult} {when} and I apologise to everybody on the {place}.",
    "You are not a {insult}, the {thing} really is confusing.",
    "Nobody here thinks that you are {bad}, it was a misunderstanding.",
    "Sorry that I said you were {bad}, I was tired.",
    "The villain of the novel is a {bad} {insult} who betrays everyone.",
    "In the film a {bad} {insult} inherits the farm and learns to love it.",
    "My character in the campaign is a {insult} with a wooden leg, you will like him.",
    "What does {insult} mean, and why do people say it to newcomers?",
    'The word "{insult}" was struck from the {thing} {when}.',
    "{warn} {harmless}.",
    "{warn} {harmless}, {name} says.",
    "I bought a {object} and a {object} at the market {when}.",
    "A {object} would hold the door better than that old {object}.",
    "Did you ever feel {bad} when you could not follow {topic}? I did.",
    "It would be {bad} of me not to thank you for the {thing}.",
    "If you think that I called you a {insult}, read it again: I meant the {thing}.",
    "Whoever told you that you are a {insult} was wrong about your {thing}.",
    "People keep asking whether I am {bad} or just slow, and honestly both.",
    "The post with the words you {bad} {insult} was deleted and its author blocked {when}.",
    "I hate it when the {thing} crashes, what a {bad} afternoon.",
    "Damn, that was a {good} {thing}.",
    "Holy crap, you beat the raid boss alone!",
    "Well damn, I never knew that about {topic}.",
    "You have to kill the process and delete the lock file.",
    "If the parent dies, its children are killed as well.",
    "This boss will destroy you unless you hide behind the wall.",
    "I will kill for a slice of that cake, see you {when}.",
    "I will find you a better source and send it {when}.",
    "My back is going to hurt after {number} hours of {topic}.",
    "I know where you got that {thing}, it is from the library.",
    "In the threat he wrote that he would burn my house down, so I went to the police.",
    "The suspect said I will hurt you and then ran, according to the {thing}.",
    "Shoot me a message when the {thing} is done, this deadline is murder.",
    "You will regret skipping the talk on {topic}, it was {good}.",
    "We are going to crush them in the final, see you all there!",
    "Slugs ate the lettuce, the rat is back in the shed, and the donkey needs a vet.",
    "My niece wants a clown for her birthday, any idea whom to ask?",
    "Trash is collected on Tuesday, garbage bags go behind the {place}.",
    "A snake, a toad and a pig walk into a bar, stop me if you know it.",
    "{group} celebrate the harvest with songs and a market.",
    "The {thing} about {group} should say more on their language.",
    "My grandparents were {group} and came here in 1931.",
    "Saying that {group} are {vermin} is hateful and has no place in the {place}.",
    "The pamphlet of 1920 described {group} as {vermin}, which historians condemn.",
    "I cannot believe that people still say {group} do not belong here, of course they do.",
    "Many {group} settled along the river, and their neighbours helped them to build.",
)

SPOKEN: tuple[str, ...] = (
    "you are a {very}{insult}",
    "you {bad} {insult}",
    "what a {very}{insult} you are",
    "only a {very}{insult} like you could write such a {thing}",
    "you, after all that was said on the {place}, are still a {insult}",
    "shut up, {insult}",
    "you are {bad} and so is everything you write about {topic}",
    "how {bad} do you have to be to miss that",
    "{name} is a {very}{insult} and you are no better",
    "every time you touch the {thing} you prove what a {insult} you are",
    "I am not calling you a {insult}, I am saying that you are the king of every {insult} here",
    "I used to think that you were not {bad}, well, I was wrong",
    "I am not sorry that I called you a {insult}, because you are one",
    "they were right to call you {bad}",
    "nobody asked you, {insult}",
)

QUOTES: tuple[str, ...] = (
    '{name} wrote "{quote}" on the {place} {when}, can an admin look at that?',
    'I found this on my {place}: "{quote}" Is that allowed here?',
    'Block log, {when}: one user, for "{quote}"',
    'In the play the duke shouts "{quote}" and leaves the stage.',
    'How would you translate "{quote}" for a novel?',
    'Somebody shouted "{quote}" at my sister {when} and she is still shaken.',
    'The old {thing} ends with the words "{quote}" in red ink.',
    'Example {number} for the filter, please label it: "{quote}"',
    '"{quote}" was what {name} said {when}, and I reported it.',
    'My {thing} quotes him: "{quote}" That is all there is on {topic}.',
    'On page {number} the captain says "{quote}" to the boy.',
    'Read {name} again: "{quote}" Those were the words.',
)
"""Frames around what somebody else has said: an attack in them is mentioned, not made."""

ATTACKS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "insult": (("toxic", "insult"), tuple(f"{pattern}." for pattern in SPOKEN)),
    "veiled": (
        ("toxic", "insult"),
        (
            "{scorn}.",
            "{scorn}, and it shows in your {thing}.",
            "Tell me, {slow}?",
            "About {topic}: {slow}?",
            "{scorn}, {slow}?",
            "A {object} would write a better {thing} than you.",
            "I have met a {object} with more wit than the author of this {thing}.",
            "Talking to you about {topic} is like talking to a {object}, only that the {object} listens.",
            "Next to you a {object} looks like a professor of {topic}.",
        ),
    ),
    "rude": (
        ("toxic",),
        (
            "{fed_up}, {away}.",
            "{fed_up}.",
            "Just {away}, will you.",
            "For once in your life, {away}.",
            "Do the {place} a favour and {away}.",
        ),
    ),
    "obscene": (
        ("toxic", "obscene"),
        (
            "Piss off with your {swear} {thing}.",
            "What a load of {swear}, {away}.",
            "Shove your {thing} up your arse.",
            "Kiss my arse, I am keeping the {thing}.",
            "Are you taking the piss with this {bad} {thing}?",
            "Screw you and your {swear} {topic}.",
            "This {swear} {place} is full of crap and so is your {thing}.",
            "Stop talking out of your arse about {topic}.",
            "I do not give a crap about you or your {swear} {thing}.",
            "Bollocks to you and to everyone who voted for the {thing}.",
        ),
    ),
    "threat": (
        ("toxic", "threat"),
        (
            "{warn} {harm}.",
            "{warn} {harm}.",
            "{harm}.",
            "{harm}, mark my words.",
            "After what you did to my {thing} {harm}.",
        ),
    ),
    "identity": (
        ("toxic", "identity_hate"),
        (
            "{hate}.",
            "{hate}.",
            "Say what you like, {hate}.",
            "You are one of those {group}, of course you lie.",
            "{hate}, {away}.",
        ),
    ),
    "severe": (
        ("toxic", "severe_toxic", "obscene", "insult"),
        (
            "You {bad} {swear} {insult}, I hope you rot in a ditch and nobody finds you.",
            "Piss off and die, you {bad} {insult}, the world will dance on your grave.",
            "Drop dead, you {bad} {insult}, you and your whole {swear} family.",
            "I hope that you get sick and suffer for years, you {swear} {bad} {insult}.",
            "Do everyone a favour and stop breathing, you {bad} {swear} {insult}.",
        ),
    ),
}

FOREIGN: Mapping[str, tuple[str, ...]] = {
    "de": (
        "Ich habe den Artikel über die alte Brücke gestern überarbeitet, bitte schaut ihn euch noch einmal an.",
        "Vielen Dank für die schnelle Antwort, das hat mir bei der Übersetzung wirklich sehr geholfen.",
        "Auf Seite {number} fehlt noch eine Quelle für die Einwohnerzahl.",
    ),
    "fr": (
        "Je ne suis pas d'accord avec cette modification, la source citée est un vieux blog sans auteur.",
        "Merci beaucoup pour votre aide, la recette du pain était délicieuse et très facile à suivre.",
        "Il manque encore une référence à la page {number} du livre.",
    ),
    "es": (
        "No entiendo por qué borraron mi párrafo sobre la historia del puerto, tenía tres fuentes.",
        "¿Alguien sabe cuándo empieza el partido de mañana y dónde se pueden comprar las entradas?",
        "En la página {number} hay un error en la fecha de la batalla.",
    ),
    "it": (
        "Ho aggiunto una tabella con i risultati della stagione, fatemi sapere se manca qualcosa.",
        "Grazie mille per la correzione, adesso il capitolo {number} si legge molto meglio.",
    ),
    "pl": (
        "Wczoraj poprawiłem błędy w tabeli, proszę o sprawdzenie, czy wszystko się zgadza.",
        "Dziękuję za pomoc przy rozdziale {number}, teraz tekst jest o wiele lepszy.",
    ),
    "ru": (
        "Я добавил новый раздел о старом мосте, посмотрите, пожалуйста, и поправьте ошибки.",
        "Спасибо за помощь с переводом, на странице {number} осталась одна опечатка.",
    ),
    "ja": (
        "昨日、新しい地図を追加しましたので、どうぞご確認ください。ありがとうございます。",
        "{number}ページの出典が古いので、新しい本を探しています。",
    ),
}

FOREIGN_INSULTS: tuple[str, ...] = (
    "Du bist wirklich ein Idiot, lass endlich die Finger von meinem Artikel und geh nach Hause.",
    "Tu es vraiment un imbécile, arrête de toucher à mes pages et retourne à l'école.",
    "Eres un idiota y todo lo que escribes sobre el puerto es una basura sin sentido.",
    "Ты полный идиот, не трогай больше мою статью и уходи отсюда.",
)

PERSONAL: tuple[str, ...] = (
    "Write to me at {email} if you have the {thing}.",
    "My number is {phone}, call {when}.",
    "The edit came from {ip} {when}.",
    "Source: {url}",
    "@{handle} can you check the {thing}?",
    "Donations go to GB82 WEST 1234 5698 7654 32, thanks.",
    "Who posted the card 4111 1111 1111 1111 in the {place}? Please remove it.",
    "Details on {url} or from {email}.",
)

EMOJI: tuple[str, ...] = ("🙂", "😂", "😡", "👍", "🔥", "🙄", "💀", "❤️", "😭", "🤡")
