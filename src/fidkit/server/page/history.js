// Questions asked before, kept in this browser alone.

import { byId, fill, h } from "./dom.js";
import { change, drawn, state } from "./state.js";
import { keep, recalled, say } from "./words.js";

const KEPT = "fidkit.history";
const MOST = 30;

/** Keep a question with its answer, the newest first, each question once. */
export function remember(question, answer) {
  const before = state.history.filter((one) => one.question !== question);
  store([{ question, answer }, ...before].slice(0, MOST));
}

/** What was kept; nothing where that is none of ours. */
export function start() {
  let history = [];
  try {
    const kept = JSON.parse(recalled(KEPT) ?? "[]");
    if (Array.isArray(kept)) history = kept.filter((one) => typeof one?.question === "string").slice(0, MOST);
  } catch {
    // Somebody else's value under this name: begin anew.
  }
  change({ history });
}

/** The address of a question on this server. */
export const linkTo = (question) => `#q=${encodeURIComponent(question)}`;

function store(history) {
  keep(KEPT, JSON.stringify(history));
  change({ history });
}

function draw({ history }) {
  if (history.length === 0) {
    fill(byId("history-body"), h("p", { class: "quiet" }, say("history_empty")));
    return;
  }
  const items = history.map((one) =>
    h("li", {}, h("a", { href: linkTo(one.question) }, one.question), h("span", { class: "quiet" }, one.answer ?? "–")),
  );
  fill(
    byId("history-body"),
    h("ul", { class: "list" }, items),
    h("button", { type: "button", class: "plain", "data-key": "clear", onclick: () => store([]) }, say("clear")),
  );
}

drawn(["history"], draw);
