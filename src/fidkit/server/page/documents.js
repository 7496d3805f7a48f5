// The documents that are served: listed, added by a button or by dropping them, watched, removed.

import { get, upload } from "./api.js";
import { described } from "./asking.js";
import { byId, fill, h } from "./dom.js";
import { change, drawn, state } from "./state.js";
import { number, say } from "./words.js";

const PER_REQUEST = 50;

let events = null;
let asked = PER_REQUEST;

/** List the documents, and follow what happens to them while the page is looked at. */
export function start() {
  refresh();
  follow();
  document.addEventListener("visibilitychange", follow);
  dropping();
}

async function refresh() {
  try {
    const [documents, [corpus]] = await Promise.all([
      get(`/v1/documents?limit=${asked}`),
      get("/v1/corpora"),
    ]);
    change({ documents, corpus });
  } catch (error) {
    change({ work: { problem: described(error) } });
  }
}

/** A browser keeps few connections to one server: a page that nobody sees lets go of its own. */
function follow() {
  if (document.visibilityState === "hidden") {
    events?.close();
    events = null;
  } else if (events === null) {
    events = new EventSource("/v1/documents/events");
    const on = (name, listen) => events.addEventListener(name, (event) => event.data && listen(JSON.parse(event.data)));
    on("progress", (progress) => tell({ message: inWords(progress), share: shareOf(progress) }));
    on("error", (error) => change({ work: { problem: state.work?.problem, fault: error.message } }));
    on("indexed", () => {
      tell({ message: say("indexed") });
      refresh();
    });
    events.addEventListener("open", () => state.documents && refresh()); // what was missed meanwhile
  }
}

/** What goes on; a problem with what was sent stays beside it until something else is done. */
function tell(work) {
  change({ work: { problem: state.work?.problem, ...work } });
}

const shareOf = (progress) => (progress.total_bytes ? progress.done_bytes / progress.total_bytes : null);

function inWords({ stage, done_files: done, total_files: total, passages }) {
  const counts = say("files_done", ...[done, total, passages].map(number));
  return `${say("building")[stage] ?? stage}: ${counts}`;
}

async function add(files) {
  if (!files.length) return;
  const message = say("sending", [...files].map((file) => file.name).join(", "));
  change({ work: { message, share: 0 } });
  try {
    const taken = await upload(files, (share) => change({ work: share < 1 ? { message, share } : { message: say("sent"), share: null } }));
    if (taken.refused.length) change({ work: { ...state.work, problem: taken.refused.map((file) => file.reason).join("\n") } });
  } catch (error) {
    change({ work: { problem: described(error) } });
  }
  await refresh();
}

async function remove(name) {
  change({ work: { message: say("removed", name), share: null } }); // before the event that it is done can come
  try {
    await get(`/v1/documents/${encodeURIComponent(name)}`, { method: "DELETE" });
  } catch (error) {
    change({ work: { problem: described(error) } });
  }
  await refresh();
}

function dropping() {
  const veil = byId("drop");
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    veil.hidden = !state.documents?.can_add;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) veil.hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    veil.hidden = true;
    if (state.documents?.can_add) add(event.dataTransfer.files);
    else change({ work: { problem: say("fixed") } });
  });
}

function drawHead({ documents, corpus }) {
  const left = Math.max(0, (documents?.total ?? 0) - (corpus?.files ?? 0));
  const counts = corpus && say("served", number(corpus.files), number(corpus.passages), number(left));
  fill(byId("served"), counts);
  if (!documents) return;
  const chosen = (event) => {
    add([...event.target.files]);
    event.target.value = "";
  };
  const button = [
    h("label", { class: "button", for: "files" }, say("add")),
    h("input", { id: "files", type: "file", multiple: true, class: "unseen", "data-key": "files", onchange: chosen }),
    h("span", { class: "quiet" }, say("add_hint")),
  ];
  fill(byId("documents-body"), h("p", { class: "add" }, documents.can_add ? button : say("fixed")));
}

function drawWork({ work }) {
  if (work === null) return fill(byId("documents-said"));
  const bar = work.share !== undefined && h("progress", { value: work.share, "aria-label": work.message });
  const problems = `${work.problem ?? ""}\n${work.fault ?? ""}`.split("\n").filter(Boolean).map((line) => h("p", { class: "problem" }, line));
  fill(byId("documents-said"), problems, work.message && h("p", { class: "quiet" }, work.message), bar);
}

function drawList({ documents }) {
  if (!documents) return;
  const { added, total } = documents;
  const own = added.length > 0 && [h("h3", {}, say("added_by")), h("ul", { class: "list files" }, added.map(ownFile))];
  const rest = total - documents.documents.length;
  const next = h("button", { type: "button", class: "plain", "data-key": "next", onclick: further }, say("next_files", number(Math.min(rest, PER_REQUEST))));
  const open = byId("all-files")?.open;
  fill(
    byId("documents-list"),
    own,
    h("details", { id: "all-files", open },
      h("summary", { "data-key": "all" }, `${say("all_served")} (${number(total)})`),
      h("ul", { class: "list files" }, documents.documents.map(servedFile)),
      rest > 0 && asked < 1000 && next),
  );
}

function further() {
  asked = Math.min(1000, asked + PER_REQUEST);
  refresh();
}

function ownFile(file) {
  const status = { waiting: "waiting", indexed: "status_indexed", "left out": "left_out" }[file.status];
  return h("li", {}, h("span", { class: "name" }, file.name), h("span", { class: "quiet" }, reasoned(say(status), file.reason)),
    h("button", { type: "button", class: "plain", "data-key": `remove-${file.name}`, "aria-label": say("remove_what", file.name), onclick: () => remove(file.name) }, say("remove")));
}

function servedFile(file) {
  const status = file.status === "indexed"
    ? reasoned(say("passages", number(file.passages)), file.reason)
    : reasoned(say("left_out"), file.reason || say("no_text"));
  return h("li", {}, h("span", { class: "name" }, file.name), h("span", { class: "quiet" }, status));
}

const reasoned = (status, reason) => (reason ? `${status}: ${reason}` : status);

drawn(["documents", "corpus"], drawHead);
drawn(["work"], drawWork);
drawn(["documents"], drawList);
