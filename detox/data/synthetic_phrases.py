"""Sentence patterns of the synthetic corpus (`detox.data.synthetic`).

`{name}` in a pattern stands for a random entry of `WORDS["name"]` of `detox.data.synthetic_words`. All was written for
this corpus. Sentences that attack and sentences that do not share their vocabulary on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    "The {stuff} {ware} was closed {when}.",
    "My {stuff}{ware} is better than the {stuff} {ware} next door.",
    "I painted a {object} for the {stuff} {ware}.",
    "You {task} better than you think, keep going.",
    "You {task} like a professional, and the {object} looks great.",
    "My cat and my {creature} watch me {task} {when}.",
    "The doctor looked at my {body} and my {body} {when}.",
    "The {creature} {when} was as big as a {tool}.",
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
    "{group} {care} {ours} and {care} {ours}.",
    "Some {group} {care} {ours}, and everybody is glad of it.",
    "Those friendly {group} {care} {ours} {when}.",
    "{group} {care} {ours}, says the {thing}.",
    "Floods {ruin} {ours} {when}, and {group} came to help.",
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
            "You {task} like a {object}.",
            "You {task} like a {object} and look like a {object}.",
            "I have seen a {object} {task} better than you.",
            "How can you {task} with the brain of a {creature}?",
            "People like you should not be allowed to {task}, a {object} has more talent.",
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
