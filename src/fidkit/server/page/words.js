// What the page says, in English and German, and numbers as each language writes them.

import { state } from "./state.js";

const WORDS = {
  en: {
    skip: "Skip to the question",
    api: "API",
    help: "Help",
    other_language: "Deutsch",
    ask_label: "Ask your documents",
    ask: "Ask",
    stop: "Stop",
    reader: "Reader",
    answer: "Answer",
    reading: "Reading …",
    silent: "Your documents don’t seem to say.",
    best_guess: "Best guess",
    nothing: "nothing",
    confidence: (percent) => `${percent} sure`,
    likelihood: (percent) => `the reader gives its answer ${percent}`,
    verbatim: "as written in the documents",
    link: "Copy a link to this question",
    linked: "Link copied",
    unlinked: "Copy it from the address bar",
    cited: "Cited passage",
    evidence: "Evidence",
    evidence_about: "Passages that were read, by their share of the answer.",
    found_about: "Passages that are being read.",
    none_found: "No passage was found.",
    more: (n) => (n === 1 ? "Show one more passage" : `Show ${n} more passages`),
    chip: (n, title) => `Passage ${n}: ${title}`,
    share: (percent) => `${percent} of the answer`,
    source: "Open the source",
    source_close: "Close the source",
    without: "Without this passage",
    testing: "Leaving it out …",
    without_other: "Without this passage, the answer would be",
    without_same: "Without this passage, the answer stays",
    without_untested: "It was the only passage: without it there is nothing to read.",
    without_score: (answer, before, after) =>
      `The reader gives “${answer}” a likelihood of ${before} with it, ${after} without.`,
    rests: "the answer rests on it",
    opening: "Opening …",
    page_picture: (page, source) => `Page ${page} of ${source} as a picture; its text follows`,
    page_failed: "The page can’t be shown as a picture.",
    page_text: "Text",
    readers: "Readers side by side",
    compare: "Ask the other readers too",
    comparing: "Asking …",
    time: "Time",
    column_confidence: "Confidence",
    timings: "Where the time went",
    stages: {
      search: "search", queue: "wait", tokenize: "words to tokens", memory: "memory", encode: "read",
      decode: "write", evidence: "find evidence", test: "test evidence", other: "other",
    },
    kinds: {
      page: "page", slide: "slide", sheet: "sheet", row: "row", chapter: "chapter", part: "part", cell: "cell",
    },
    several: { page: "pages", slide: "slides", row: "rows", cell: "cells" },
    building: { read: "Reading", index: "Indexing", vectors: "Indexing by meaning" },
    documents: "Documents",
    served: (files, passages, out) => listed(many(files, "file", "files"), many(passages, "passage", "passages"), out !== "0" && `${out} left out`),
    add: "Add documents",
    add_hint: "or drop them anywhere on this page",
    fixed: "These documents were indexed before; none can be added here.",
    drop: "Drop the files to add them",
    sending: (names) => `Sending ${names}`,
    files_done: (done, total, passages) => listed(`${done} of ${many(total, "file", "files")}`, many(passages, "passage", "passages")),
    sent: "Sent; it is read in a moment.",
    indexed: "Done: the documents are up to date.",
    waiting: "waiting to be read",
    left_out: "left out",
    status_indexed: "ready",
    passages: (n) => many(n, "passage", "passages"),
    remove: "Remove",
    remove_what: (name) => `Remove ${name}`,
    removed: (name) => `${name} is being removed. For a few seconds this can be undone.`,
    leaving: "being removed",
    undo: "Undo",
    undo_what: (name) => `Undo: keep ${name}`,
    stays: (name) => `${name} stays.`,
    added_by: "Added here",
    all_served: "All files",
    next_files: (n) => `Show ${n} more files`,
    history: "Asked before",
    history_empty: "Your questions will be listed here, in this browser only.",
    clear: "Clear the list",
    keys: "Keyboard",
    close: "Close",
    keys_list: [
      ["/", "to the question"],
      ["j", "next passage"],
      ["k", "passage before"],
      ["Esc", "close what is open, stop reading"],
      ["?", "this help"],
    ],
    unreachable: "The server can’t be reached. Is it still running?",
    later: (seconds) => `Ask again in ${seconds} s.`,
    again: "Ask again",
    key: "Key to this server",
    enter: "Enter",
    wrong_key: "This key isn’t known here. Check it, or ask whoever runs the server for another.",
  },
  de: {
    skip: "Zur Frage",
    api: "API",
    help: "Hilfe",
    other_language: "English",
    ask_label: "Fragen Sie Ihre Dokumente",
    ask: "Fragen",
    stop: "Halt",
    reader: "Leser",
    answer: "Antwort",
    reading: "Liest …",
    silent: "Ihre Dokumente sagen das offenbar nicht.",
    best_guess: "Beste Vermutung",
    nothing: "nichts",
    confidence: (percent) => `zu ${percent} sicher`,
    likelihood: (percent) => `der Leser gibt seiner Antwort ${percent}`,
    verbatim: "so steht es in den Dokumenten",
    link: "Link zu dieser Frage kopieren",
    linked: "Link kopiert",
    unlinked: "Er steht in der Adresszeile",
    cited: "Zitierte Stelle",
    evidence: "Belege",
    evidence_about: "Gelesene Stellen, nach ihrem Anteil an der Antwort.",
    found_about: "Stellen, die gerade gelesen werden.",
    none_found: "Keine Stelle gefunden.",
    more: (n) => (n === 1 ? "Eine weitere Stelle zeigen" : `${n} weitere Stellen zeigen`),
    chip: (n, title) => `Stelle ${n}: ${title}`,
    share: (percent) => `${percent} der Antwort`,
    source: "Quelle öffnen",
    source_close: "Quelle schließen",
    without: "Ohne diese Stelle",
    testing: "Wird weggelassen …",
    without_other: "Ohne diese Stelle wäre die Antwort",
    without_same: "Ohne diese Stelle bleibt die Antwort",
    without_untested: "Es war die einzige Stelle: ohne sie gibt es nichts zu lesen.",
    without_score: (answer, before, after) =>
      `Der Leser hält „${answer}“ mit ihr für ${before} wahrscheinlich, ohne sie für ${after}.`,
    rests: "darauf beruht die Antwort",
    opening: "Wird geöffnet …",
    page_picture: (page, source) => `Seite ${page} von ${source} als Bild; ihr Text folgt`,
    page_failed: "Die Seite lässt sich nicht als Bild zeigen.",
    page_text: "Text",
    readers: "Leser im Vergleich",
    compare: "Auch die anderen Leser fragen",
    comparing: "Wird gefragt …",
    time: "Zeit",
    column_confidence: "Sicherheit",
    timings: "Wo die Zeit blieb",
    stages: {
      search: "Suchen", queue: "Warten", tokenize: "Wörter zerlegen", memory: "Gedächtnis",
      encode: "Lesen", decode: "Schreiben", evidence: "Belege finden", test: "Belege prüfen",
      other: "Übriges",
    },
    kinds: {
      page: "Seite", slide: "Folie", sheet: "Blatt", row: "Zeile", chapter: "Kapitel", part: "Teil", cell: "Zelle",
    },
    several: { page: "Seiten", slide: "Folien", row: "Zeilen", cell: "Zellen" },
    building: { read: "Lesen", index: "Erfassen", vectors: "Nach Bedeutung erfassen" },
    documents: "Dokumente",
    served: (files, passages, out) => listed(many(files, "Datei", "Dateien"), many(passages, "Stelle", "Stellen"), out !== "0" && `${out} ausgelassen`),
    add: "Dokumente hinzufügen",
    add_hint: "oder irgendwo auf diese Seite ziehen",
    fixed: "Diese Dokumente wurden vorher erfasst; hier kommen keine hinzu.",
    drop: "Dateien loslassen, um sie hinzuzufügen",
    sending: (names) => `${names} wird gesendet`,
    files_done: (done, total, passages) => listed(`${done} von ${many(total, "Datei", "Dateien")}`, many(passages, "Stelle", "Stellen")),
    sent: "Gesendet; gleich wird gelesen.",
    indexed: "Fertig: die Dokumente sind auf dem neuesten Stand.",
    waiting: "wartet",
    left_out: "ausgelassen",
    status_indexed: "bereit",
    passages: (n) => many(n, "Stelle", "Stellen"),
    remove: "Entfernen",
    remove_what: (name) => `${name} entfernen`,
    removed: (name) => `${name} wird entfernt. Einige Sekunden lang lässt sich das rückgängig machen.`,
    leaving: "wird entfernt",
    undo: "Rückgängig",
    undo_what: (name) => `Rückgängig: ${name} behalten`,
    stays: (name) => `${name} bleibt.`,
    added_by: "Hier hinzugefügt",
    all_served: "Alle Dateien",
    next_files: (n) => `${n} weitere Dateien zeigen`,
    history: "Schon gefragt",
    history_empty: "Ihre Fragen stehen dann hier, nur in diesem Browser.",
    clear: "Liste leeren",
    keys: "Tastatur",
    close: "Schließen",
    keys_list: [
      ["/", "zur Frage"],
      ["j", "nächste Stelle"],
      ["k", "Stelle davor"],
      ["Esc", "Offenes schließen, Lesen anhalten"],
      ["?", "diese Hilfe"],
    ],
    unreachable: "Der Server ist nicht erreichbar. Läuft er noch?",
    later: (seconds) => `Fragen Sie in ${seconds} s noch einmal.`,
    again: "Noch einmal fragen",
    key: "Schlüssel zu diesem Server",
    enter: "Eintreten",
    wrong_key: "Dieser Schlüssel ist hier nicht bekannt. Prüfen Sie ihn, oder fragen Sie, wer den Server betreibt.",
  },
};

const KEPT = "fidkit.language";

/** A number, as it is written, with the word for so many. */
const many = (n, one, more) => `${n} ${n === "1" ? one : more}`;

const listed = (...parts) => parts.filter(Boolean).join(", ");

/** A word or sentence in the language of the page. */
export function say(name, ...values) {
  const word = WORDS[state.language][name];
  return typeof word === "function" ? word(...values) : word;
}

/** The language that the person chose, or else the browser's. */
export function preferred() {
  const kept = recalled(KEPT);
  if (kept in WORDS) return kept;
  const known = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in WORDS);
  return known ?? "en";
}

/** The other language, kept for the next visit. */
export function switched() {
  const language = state.language === "en" ? "de" : "en";
  keep(KEPT, language);
  return language;
}

/** Whole percent; what is more than nothing is never shown as nothing. */
export function percent(share) {
  if (share > 0 && share < 0.01) return `< ${formatted(0.01, { style: "percent" })}`;
  return formatted(share, { style: "percent", maximumFractionDigits: 0 });
}

export const number = (n) => formatted(n, {});

export const milliseconds = (ms) => `${formatted(ms, { maximumFractionDigits: ms < 10 ? 1 : 0 })} ms`;

function formatted(value, options) {
  return new Intl.NumberFormat(state.language, options).format(value);
}

/** A value kept in this browser; null where nothing is kept, or the browser keeps nothing. */
export function recalled(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Keep a value in this browser, where it lets us. */
export function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // A page that remembers nothing still answers.
  }
}
