"use strict";
// Text from users reaches the page as text nodes only, never as HTML.

const at = (id) => document.getElementById(id);
const percent = (value) => `${(100 * value).toFixed(1)} %`;
const share = (value) => `${(100 * value).toFixed(1)}%`; // for CSS, which allows no space
let current = 0; // the number of the last check: answers to earlier ones are dropped
let checked = ""; // its text

function make(tag, content = "", className = "") {
  const node = document.createElement(tag);
  node.textContent = content;
  if (className) node.className = className;
  return node;
}

async function ask(path, body) {
  const headers = { "content-type": "application/json" };
  if (at("key").value) headers.authorization = `Bearer ${at("key").value}`;
  return answered(await fetch(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

async function answered(response) {
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const wait = response.headers.get("retry-after");
    const reason = answer.error?.message ?? `The service answered ${response.status}.`;
    throw new Error(wait ? `${reason} Try again in ${wait} s.` : reason);
  }
  return answer;
}

function say(message, isError = false) {
  at("status").textContent = message;
  at("status").className = isError ? "error" : "";
}

function showScores(result, thresholds) {
  const sentences = {
    allow: "below what people look at.",
    review: "a person should look at it.",
    block: "it would be held back.",
  };
  at("verdict").replaceChildren(make("strong", result.action, result.action), `: ${sentences[result.action]}`);
  const rows = Object.entries(result.probabilities)
    .sort((first, second) => second[1] - first[1])
    .map(([label, probability]) => {
      const row = make("tr", "", result.flags.includes(label) ? "flagged" : "");
      const name = make("th", label.replaceAll("_", " "));
      name.scope = "row";
      const value = make("td");
      const bar = make("div", "", "bar");
      const filled = make("i");
      filled.style.width = share(probability);
      const mark = make("b");
      mark.style.left = share(thresholds[label]);
      bar.append(filled, mark);
      value.append(make("span", percent(probability)), bar);
      row.append(name, value, make("td", percent(thresholds[label]), "number"));
      return row;
    });
  at("labels").replaceChildren(...rows);
  at("scores").hidden = false;
}

function showWords(text, found) {
  const largest = Math.max(...found.spans.map((span) => Math.abs(span.weight)), 1e-9);
  const characters = Array.from(text); // offsets count code points
  const parts = [];
  let done = 0;
  for (const span of found.spans) {
    parts.push(characters.slice(done, span.begin).join(""));
    const mark = make("mark", span.text);
    const weight = Math.abs(span.weight) / largest;
    mark.style.background = `rgb(var(--${span.weight > 0 ? "for" : "against"}) / ${(0.55 * weight).toFixed(2)})`;
    mark.title = `${span.weight > 0 ? "speaks for" : "speaks against"} ${found.label}: ${span.weight.toFixed(2)}`;
    parts.push(mark);
    done = span.end;
  }
  parts.push(characters.slice(done).join(""));
  at("words").replaceChildren(...parts);
  // what colours say, in words: by keyboard and by ear
  const heaviest = (sign) =>
    found.spans
      .filter((span) => sign * span.weight > 0.2 * largest)
      .sort((first, second) => sign * (second.weight - first.weight))
      .slice(0, 5)
      .map((span) => `“${span.text}”`)
      .join(", ");
  const sentences = [`Red speaks for ${found.label.replaceAll("_", " ")}, blue against it.`];
  if (heaviest(1)) sentences.push(`Heaviest for it: ${heaviest(1)}.`);
  if (heaviest(-1)) sentences.push(`Against it: ${heaviest(-1)}.`);
  at("legend").textContent = sentences.join(" ");
}

async function explain(text, label, number) {
  const [found] = (await ask("v1/explain", { input: text, label })).results;
  if (number === current && label === at("label").value) showWords(text, found);
}

// A word that is struck out or underlined, and said to be.
function changed(tag, word, said) {
  const node = make(tag);
  node.append(make("span", word.trim() ? said : "", "unseen"), word);
  return node;
}

// Words of two texts, each kept, taken out or put in: the longest common subsequence.
function difference(before, after) {
  const [first, second] = [before, after].map((text) => text.match(/\s+|\S+/gu) ?? []);
  if (first.length * second.length > 4e6) return [after]; // the table would fill the memory
  const common = Array.from({ length: first.length + 1 }, () => new Uint16Array(second.length + 1));
  for (let i = first.length - 1; i >= 0; i--)
    for (let j = second.length - 1; j >= 0; j--)
      common[i][j] = first[i] === second[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  const parts = [];
  for (let i = 0, j = 0; i < first.length || j < second.length; ) {
    if (i < first.length && j < second.length && first[i] === second[j]) parts.push(first[i++]), j++;
    else if (j >= second.length || (i < first.length && common[i + 1][j] >= common[i][j + 1]))
      parts.push(changed("del", first[i++], "removed: "));
    else parts.push(changed("ins", second[j++], "added: "));
  }
  return parts;
}

// `scores`: of a label, before and after, by the classifier.
function showRewrite(text, result, label, scores) {
  const ways = {
    model: "by the model",
    reranked: "chosen among candidates",
    edited: "toxic words cut out",
    unchanged: "nothing better was found",
    "already neutral": "left as it is: neutral already",
  };
  at("rewritten").textContent = result.text;
  at("difference").replaceChildren(...difference(text, result.text));
  at("difference").hidden = !result.changed;
  const facts = [
    ["How", ways[result.how]],
    [`Score of ${label.replaceAll("_", " ")}`, scores.map(percent).join(" → ")],
    ["Rewriter’s own score", [result.toxicity_before, result.toxicity_after].map(percent).join(" → ")],
    ["Similarity", percent(result.similarity)],
  ];
  at("facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
  at("rewrite").hidden = false;
}

async function check(event) {
  event?.preventDefault();
  const text = at("text").value;
  if (!text.trim()) return at("text").focus();
  const number = ++current;
  const isLate = () => number !== current;
  checked = text;
  at("check").disabled = true;
  for (const id of ["scores", "why", "rewrite"]) at(id).hidden = true;
  say("Checking …");
  try {
    const info = await answered(await fetch("info"));
    if (isLate()) return;
    at("model").textContent = `Model ${info.model.name}, version ${info.model.version}`;
    const [result] = (await ask("v1/classify", { input: text })).results;
    if (isLate()) return;
    showScores(result, info.model.thresholds);
    const labels = Object.keys(result.probabilities);
    const highest = labels.reduce((best, label) => (result.probabilities[label] > result.probabilities[best] ? label : best));
    at("label").replaceChildren(...labels.map((label) => new Option(label.replaceAll("_", " "), label, false, label === highest)));
    const failed = [];
    say("Looking for the words behind it …");
    try {
      await explain(text, highest, number);
      if (isLate()) return;
      at("why").hidden = false;
    } catch (error) {
      failed.push(`Words: ${error.message}`);
    }
    if (info.rewriter && !isLate()) {
      say("Rewriting …");
      try {
        const [rewrite] = (await ask("v1/detoxify", { input: text })).results;
        const [after] = (await ask("v1/classify", { input: rewrite.text })).results;
        if (isLate()) return;
        showRewrite(text, rewrite, highest, [result, after].map((one) => one.probabilities[highest]));
      } catch (error) {
        failed.push(`Rewrite: ${error.message}`);
      }
    }
    if (!isLate()) say([`Done: ${result.action}.`, ...failed].join(" "), failed.length > 0);
  } catch (error) {
    if (!isLate()) say(error.message, true);
  } finally {
    if (!isLate()) at("check").disabled = false;
  }
}

at("ask").addEventListener("submit", check);
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) check(event);
});
at("label").addEventListener("change", async () => {
  try {
    await explain(checked, at("label").value, current);
  } catch (error) {
    say(error.message, true);
  }
});
