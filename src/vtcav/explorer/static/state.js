// The state of the page, and the history of its concepts.
import { notice, send } from "./core.js";

export const state = {
  about: null, pictures: new Map(), picture: null, looks: new Map(),
  concepts: [], selected: null, compare: null, results: new Map(),
  layer: "", added: [], dropped: [], tool: "look",
  // what erasing says: of concepts by id, and of the region marked by hand
  said: new Map(), erased: null,
  // what was found, by layer, and what became of its tiles: "" for one thrown away, else where it was merged
  found: new Map(), tiles: {},
};
const past = [];
const future = [];
const MOST = 200;
let serial = 0;
let keeping = Promise.resolve();
let apart = false;

const snapshot = () => JSON.stringify({ concepts: state.concepts, selected: state.selected, tiles: state.tiles });
const restore = (text) => {
  const { concepts, selected, tiles } = JSON.parse(text);
  state.concepts = concepts;
  state.tiles = tiles;
  state.selected = concepts.some((c) => c.id === selected) || learned(selected) ? selected : concepts.at(-1)?.id ?? null;
  if (state.compare !== null && !concept(state.compare)) state.compare = null;
};

export const learned = (id) => state.about?.learned.find((c) => `learned ${c.name}` === id) ?? null;
export const concept = (id) => state.concepts.find((c) => c.id === id) ?? learned(id);
export const selected = () => concept(state.selected);
export const editable = () => state.concepts.find((c) => c.id === state.selected) ?? null;
export const fresh = (name) => {
  serial += 1;
  return { id: `c${serial}`, name, examples: [], negatives: [], shared: true, found: [] };
};
// a concept as the program expects it
export const spec = (c) => (c.id === undefined ? c.name
  : { name: c.name, examples: c.examples, negatives: c.negatives, shared: c.shared, found: c.found });
// why a concept cannot have a name; empty where it can
export const nameTrouble = (text, own = null) => {
  const name = text.trim();
  if (!name) return "Type a name first.";
  const taken = [...state.concepts, ...state.about.learned].find((c) => c !== own && c.name.trim() === name);
  if (!taken) return "";
  return `There is a concept “${name}” already: take another name${!own && taken.found?.length ? ", or merge into it" : ""}.`;
};
export const freeName = () => {
  const names = new Set(state.concepts.map((c) => c.name));
  let n = state.concepts.length + 1;
  while (names.has(`concept ${n}`)) n += 1;
  return `concept ${n}`;
};

const kept = () => {
  const concepts = state.concepts.map(spec);
  const tiles = { ...state.tiles };
  keeping = keeping.then(async () => {
    const { edition } = await send("api/work", { concepts, tiles, edition: state.about.edition }, "PUT");
    state.about.edition = edition;
  }).catch((error) => {
    // said once: from then on this tab works for itself
    if (error.answer?.outdated && !apart) notice(error.message, { lasting: true });
    apart ||= Boolean(error.answer?.outdated);
  });
};
export const settled = () => keeping;

// Change the concepts so that it can be undone. Changes of one `kind` in a row are one step.
let lastKind = "";
export const change = (act, kind = "") => {
  const before = snapshot();
  act();
  if (snapshot() === before) return false;
  if (!kind || kind !== lastKind || !past.length) past.push(before);
  lastKind = kind;
  if (past.length > MOST) past.shift();
  future.length = 0;
  kept();
  return true;
};
const move = (from, to) => {
  if (!from.length) return false;
  to.push(snapshot());
  restore(from.pop());
  lastKind = "";
  kept();
  return true;
};
export const undo = () => move(past, future);
export const redo = () => move(future, past);
export const can = () => ({ undo: past.length > 0, redo: future.length > 0 });

export const classes = () => {
  const look = state.looks.get(state.picture);
  if (!look) return [];
  const top = look.predictions.slice(0, 3).map((p) => p.index).filter((t) => !state.dropped.includes(t));
  return [...new Set([...top, ...state.added])].slice(0, state.about.limits.classes);
};
