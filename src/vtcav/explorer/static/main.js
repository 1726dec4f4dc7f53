// The page's actions: what happens when something is chosen, cut, dropped or saved.
import { all, find, get, keep, make, notice, recall, remove, send, tell, Trouble, upload } from "./core.js";
import { paintFound, rank, start as startFound } from "./found.js";
import { paintBars, paintConcepts, paintEditor, paintErased, paintPhotos, paintSaid, paintTrust } from "./panels.js";
import { fade, hint, paint, start, unpack } from "./stage.js";
import { change, classes, concept, editable, fresh, freeName, nameTrouble, redo, spec, state, undo } from "./state.js";

const root = document.documentElement;
const page = crypto.randomUUID().slice(0, 16);
let number = 0;
let running = null;

// -- what is shown

const refresh = () => {
  paintPhotos(openPhoto, dropPhoto);
  paintConcepts(choose);
  paintEditor(takeOut);
  paint();
  paintSaid();
  paintErased();
  paintTrust();
  paintBars(dropClass);
  paintFound();
  find("hint").textContent = hint();
  const look = state.looks.get(state.picture);
  const photo = state.pictures.get(state.picture);
  find("predictions").textContent = look
    ? `The network’s predictions for ${photo.name}: ${look.predictions.slice(0, 3).map((p) => `${p.name} ${p.probability.toFixed(2)}`).join(", ")}.`
    : photo ? "Running the network on the photo…" : "Choose a photo, or drop your own.";
};

// -- requests for maps and numbers; a newer request supersedes older ones

const explain = async (since = performance.now()) => {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  number += 1;
  const mine = number;
  state.said.clear();
  paintSaid();
  const { picture, layer } = state;
  const ids = [state.selected, state.compare].filter((id) => {
    const c = id === null ? null : concept(id);
    return c && (c.id === undefined || c.examples.length);
  });
  if (!picture || !ids.length || !state.looks.has(picture)) { tell(""); rank(); return; }
  const slow = setTimeout(() => { if (mine === number) watch(() => mine === number && running?.signal === signal && root.dataset.done !== String(mine)); }, 400);
  const ask = async (path, more, about = { layer }) => {
    if (mine !== number) throw new DOMException("superseded", "AbortError");
    const answer = await send(path, { page, number: mine, picture, classes: wantedClasses, ...about, ...more }, "POST", signal);
    if (mine !== number) throw new DOMException("superseded", "AbortError");
    return answer;
  };
  const wantedClasses = classes();
  const concepts = ids.map((id) => spec(concept(id)));
  try {
    // first the map, with the numbers where the integral is known; then how far to trust them
    const answer = await ask("api/explain", { concepts });
    take(ids, answer, picture, false);
    rank();
    const took = performance.now() - since;
    root.dataset.took = took.toFixed(0);
    tell(`Map updated in ${(took / 1000).toFixed(2)} s.`);
    if (answer.concepts.some((f) => f.pending.length)) await ask("api/integrate", {});
    take(ids, await ask("api/explain", { concepts, judge: true }), picture, true);
    tell(`Map updated in ${(took / 1000).toFixed(2)} s, everything in ${((performance.now() - since) / 1000).toFixed(1)} s.`);
    root.dataset.done = String(mine);
    await say(ids, ask);
    root.dataset.said = String(mine);
  } catch (error) {
    if (error.name === "AbortError" || error.answer?.superseded || mine !== number) return;
    tell("");
    if (!(error instanceof Trouble)) throw error;
    notice(error.message);
  } finally {
    clearTimeout(slow);
    if (running?.signal === signal) running = null;
  }
};

// how far the scores fall without each concept, which comes last because it takes longest
const say = async (ids, ask) => {
  const { picture } = state;
  const { erased: fewest } = state.about.limits;
  const tellOf = (id, said) => { state.said.set(id, { picture, ...said }); paintSaid(); };
  const few = (id) => concept(id)?.id !== undefined && concept(id).examples.length < fewest;
  for (const id of ids) {
    tellOf(id, { text: few(id)
      ? `From ${fewest} examples on, a sentence here says how far the score falls without the concept.`
      : "Erasing it from the photo…" });
  }
  const able = ids.filter((id) => !few(id));
  // whoever goes on cutting need not wait for it
  if (able.length) await new Promise((done) => { setTimeout(done, 800); });
  for (const id of able) {
    try {
      // what looks more like another concept of the page is no region of this one
      const beside = state.concepts.filter((c) => c.id !== id && !c.found.length && c.examples.length >= fewest).map(spec);
      tellOf(id, { answer: await ask("api/erase", { concept: spec(concept(id)), beside }, {}) });
    } catch (error) {
      if (!(error instanceof Trouble) || error.answer.superseded) throw error;
      tellOf(id, { text: error.message });
    }
  }
};

// The answer may lie below the fold. Whoever types meanwhile keeps the focus.
const showErased = async () => {
  await Promise.all(all("#erased-said img").map((image) => image.decode().catch(() => {})));
  if (find("erased").hidden || document.activeElement.closest("input[type=text], select, dialog")) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  find("erased").scrollIntoView({ behavior: still ? "auto" : "smooth", block: "nearest" });
  find("erased-title").focus({ preventScroll: true });
};

let erasing = null;
let erasures = 0;
const eraseRegion = async ({ picture, box }) => {
  erasing?.abort();
  erasing = new AbortController();
  const { signal } = erasing;
  erasures += 1;
  const mine = erasures;
  state.erased = { picture, box, answer: null };
  refresh();
  try {
    const answer = await send("api/erase", { page, number: mine, picture, classes: classes(), box }, "POST", signal);
    if (mine !== erasures) return;
    state.erased = { picture, box, answer };
    root.dataset.erased = String(mine);
  } catch (error) {
    if (error.name === "AbortError" || error.answer?.superseded || mine !== erasures) return;
    if (!(error instanceof Trouble)) throw error;
    state.erased = null;
    notice(error.message);
  }
  refresh();
  await showErased();
};

const take = (ids, answer, picture, judged) => {
  ids.forEach((id, i) => {
    const f = answer.concepts[i];
    state.results.set(id, { ...f, values: unpack(f.map), layer: answer.layer, picture, judged });
  });
  paint();
  paintTrust();
  paintBars(dropClass);
};

const watch = async (wanted) => {
  while (wanted()) {
    let p;
    try { p = await get("api/progress"); } catch { return; }
    if (!wanted()) return;
    tell(p.total ? `${p.what[0].toUpperCase()}${p.what.slice(1)}: ${p.done} of ${p.total}…` : "Computing…");
    await new Promise((done) => { setTimeout(done, 300); });
  }
};

// -- photos

const openPhoto = async (key) => {
  state.picture = key;
  refresh();
  if (!state.looks.has(key)) {
    try {
      state.looks.set(key, await get(`api/look/${key}`));
    } catch (error) {
      notice(error.message);
      return;
    }
    if (state.picture !== key) return;
  }
  refresh();
  await explain();
};

const dropPhoto = async (photo) => {
  const used = state.concepts.some((c) => [...c.examples, ...c.negatives].some((e) => e.picture === photo.key));
  if (used) {
    notice(`${photo.name} is used by a concept. Remove its patches first.`);
    return;
  }
  try { await remove(`api/pictures/${photo.key}`); } catch (error) { notice(error.message); return; }
  state.pictures.delete(photo.key);
  if (state.picture === photo.key) {
    const next = [...state.pictures.values()].find((p) => p.origin !== "concept");
    state.picture = null;
    if (next) openPhoto(next.key);
  }
  refresh();
};

const addFiles = async (files) => {
  const added = [];
  for (const file of files) {
    if (file.size > state.about.limits.bytes) {
      notice(`${file.name}: it is larger than the ${state.about.limits.bytes >> 20} MB allowed.`);
      continue;
    }
    tell(`Adding ${file.name}…`);
    try {
      const photo = await upload(file);
      state.pictures.set(photo.key, photo);
      added.push(photo);
    } catch (error) {
      notice(`${file.name}: ${error.message}`);
    }
  }
  tell("");
  return added;
};

const addPhotos = async (files) => {
  const added = await addFiles(files);
  if (added.length) await openPhoto(added.at(-1).key);
  else refresh();
};

// -- concepts

const after = (changed, since) => {
  if (!changed) return;
  refresh();
  explain(since);
};

const ensure = () => {
  if (editable()) return;
  const c = fresh(freeName());
  state.concepts.push(c);
  state.selected = c.id;
};

const put = (kind, examples, since) => after(change(() => {
  ensure();
  const c = editable();
  const known = new Set(c[kind].map((e) => JSON.stringify(e)));
  c[kind].push(...examples.filter((e) => !known.has(JSON.stringify(e))));
}), since);

const takeOut = (kind, i) => {
  after(change(() => editable()[kind].splice(i, 1)));
  (find(kind).querySelectorAll("button")[Math.max(0, i - 1)] ?? find("stages").querySelector(".stage"))?.focus();
};

const choose = (id) => {
  state.selected = id;
  if (state.compare === id) state.compare = null;
  refresh();
  explain();
};

const toLayer = (layer) => {
  state.layer = layer;
  keep("vtcav-layer", layer);
  find("layer").value = layer;
  refresh();
  explain();
};

const dropClass = (t) => {
  state.added = state.added.filter((other) => other !== t);
  state.dropped.push(t);
  refresh();
  explain();
};

const addFilesTo = async (kind, files) => {
  const added = await addFiles(files);
  if (added.length) put(kind, added.map((p) => ({ picture: p.key, box: null })));
};

const tool = (name) => {
  state.tool = name;
  for (const input of all("input[name=tool]")) input.checked = input.value === name;
  refresh();
};

// -- saving

const saveDialog = find("save-dialog");
let replace = false;
const resetSave = () => {
  replace = false;
  find("save-do").textContent = "Save";
  find("save-trouble").hidden = true;
  find("save-result").hidden = true;
  find("save-copied").textContent = "";
};
const save = async () => {
  const form = new FormData(find("save-form")).get("form");
  find("save-do").disabled = true;
  try {
    const answer = await send("api/save", { concept: spec(editable()), form, replace });
    resetSave();
    find("save-where").textContent = `Saved: ${answer.places.join(" and ")}`;
    find("save-command").textContent = answer.command;
    find("save-result").hidden = false;
  } catch (error) {
    find("save-result").hidden = true;
    find("save-trouble").hidden = false;
    replace = Boolean(error.answer?.exists);
    find("save-trouble").textContent = replace ? `${error.message}. Replace it?` : error.message;
    find("save-do").textContent = replace ? "Replace" : "Save";
  } finally {
    find("save-do").disabled = false;
  }
};

// -- controls

const intro = (open) => {
  find("intro").hidden = !open;
  find("help").setAttribute("aria-expanded", String(open));
};

const dropZone = (element, act) => {
  let depth = 0;
  const files = (event) => event.dataTransfer?.types.includes("Files");
  element.addEventListener("dragenter", (event) => { if (files(event)) { depth += 1; element.classList.add("over"); } });
  element.addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); if (!depth) element.classList.remove("over"); });
  element.addEventListener("dragover", (event) => { if (files(event)) event.preventDefault(); });
  element.addEventListener("drop", (event) => {
    depth = 0;
    element.classList.remove("over");
    if (!files(event)) return;
    event.preventDefault();
    event.stopPropagation();
    act([...event.dataTransfer.files]);
  });
};

const listen = () => {
  const files = (id, act) => find(id).addEventListener("change", (event) => {
    act([...event.target.files]);
    event.target.value = "";
  });
  files("photo-files", addPhotos);
  files("examples-files", (list) => addFilesTo("examples", list));
  files("negatives-files", (list) => addFilesTo("negatives", list));
  dropZone(find("examples-drop"), (list) => addFilesTo("examples", list));
  dropZone(find("negatives-drop"), (list) => addFilesTo("negatives", list));
  dropZone(find("photo-drop"), addPhotos);
  // a photo dropped anywhere else must not replace the page
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer?.files.length) addPhotos([...event.dataTransfer.files]); });
  for (const kind of ["examples", "negatives"]) {
    find(`${kind}-whole`).addEventListener("click", () => put(kind, [{ picture: state.picture, box: null }]));
  }
  find("new").addEventListener("click", () => {
    after(change(() => { const c = fresh(freeName()); state.concepts.push(c); state.selected = c.id; }));
    find("name").focus();
    find("name").select();
  });
  find("delete").addEventListener("click", () => after(change(() => {
    state.concepts = state.concepts.filter((c) => c.id !== state.selected);
    state.selected = state.concepts.at(-1)?.id ?? (state.about.learned.length ? `learned ${state.about.learned[0].name}` : null);
    if (state.compare === state.selected) state.compare = null;
  })));
  let typing = 0;
  find("name").addEventListener("input", (event) => {
    const refused = nameTrouble(event.target.value, editable());
    if (!refused) change(() => { editable().name = event.target.value; }, `name ${state.selected}`);
    paintConcepts(choose);
    paintEditor(takeOut);
    if (refused) {  // the concept keeps its name, which the field shows again when it is left
      find("name-trouble").textContent = refused;
      find("name-trouble").hidden = false;
    }
    clearTimeout(typing);
    typing = setTimeout(() => { refresh(); explain(); }, 500);
  });
  find("name").addEventListener("change", (event) => { event.target.value = editable()?.name ?? ""; });
  find("shared").addEventListener("change", (event) => after(change(() => { editable().shared = event.target.checked; })));
  find("compare").addEventListener("change", (event) => {
    state.compare = event.target.value || null;
    refresh();
    explain();
  });
  find("undo").addEventListener("click", () => after(undo()));
  find("redo").addEventListener("click", () => after(redo()));
  find("layer").addEventListener("change", (event) => toLayer(event.target.value));
  find("opacity").addEventListener("input", fade);
  find("grey").addEventListener("change", fade);
  all("input[name=tool]").forEach((input) => input.addEventListener("change", () => tool(input.value)));
  find("class").addEventListener("change", (event) => {
    const t = state.about.classes.indexOf(event.target.value.trim());
    if (t < 0) {
      if (event.target.value.trim()) notice(`The network has no class “${event.target.value.trim()}”.`);
      return;
    }
    event.target.value = "";
    if (classes().length >= state.about.limits.classes) { notice(`At most ${state.about.limits.classes} classes are shown; remove one first.`); return; }
    state.dropped = state.dropped.filter((other) => other !== t);
    if (!state.added.includes(t)) state.added.push(t);
    refresh();
    explain();
  });
  find("erased-close").addEventListener("click", () => {
    erasing?.abort();
    erasures += 1;
    state.erased = null;
    refresh();
    find("stages").querySelector(".stage")?.focus();
  });
  find("help").addEventListener("click", () => intro(find("intro").hidden));
  find("intro-close").addEventListener("click", () => { intro(false); keep("vtcav-explorer-seen", "yes"); find("help").focus(); });
  find("save").addEventListener("click", () => { resetSave(); saveDialog.showModal(); });
  find("save-do").addEventListener("click", save);
  all("#save-form input").forEach((input) => input.addEventListener("change", resetSave));
  find("save-copy").addEventListener("click", async () => {
    let done = false;
    try { await navigator.clipboard.writeText(find("save-command").textContent); done = true; } catch { /* not allowed */ }
    if (!done) getSelection().selectAllChildren(find("save-command"));
    find("save-copied").textContent = done ? "Copied." : "Selected: copy it with Ctrl+C, or Cmd+C.";
  });
  addEventListener("keydown", (event) => {
    const typed = event.target.closest?.("input[type=text], select, dialog");
    if (typed) return;
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && !event.altKey && (key === "z" || key === "y")) {
      event.preventDefault();
      after(key === "y" || event.shiftKey ? redo() : undo());
    } else if (!event.ctrlKey && !event.metaKey && !event.altKey && { l: 1, e: 1, c: 1, x: 1 }[key]) {
      tool({ l: "look", e: "examples", c: "negatives", x: "erase" }[key]);
    }
  });
  const theme = find("theme");
  const colour = (name) => { if (name) root.dataset.theme = name; else delete root.dataset.theme; };
  theme.value = ["light", "dark"].includes(recall("vtcav-theme")) ? recall("vtcav-theme") : "";
  colour(theme.value);
  theme.addEventListener("change", () => { colour(theme.value); keep("vtcav-theme", theme.value); });
};

const option = (text) => { const made = make("option", text); made.value = text; return made; };

const begin = async () => {
  listen();
  try {
    state.about = await get("api/session");
  } catch (error) {
    notice(error.message, { lasting: true });
    return;
  }
  const { about } = state;
  for (const p of about.pictures) state.pictures.set(p.key, p);
  for (const p of about.concept_pictures) state.pictures.set(p.key, p);
  state.tiles = about.tiles;
  state.concepts = about.concepts.map((c) => ({ ...fresh(c.name), ...c }));
  state.selected = state.concepts[0]?.id ?? (about.learned.length ? `learned ${about.learned[0].name}` : null);
  find("network").textContent = about.network;
  find("version").textContent = about.version;
  find("shown-as").hidden = !about.shown;
  find("shown-as").textContent = `Photos show ${about.shown}.`;
  find("layer").replaceChildren(...about.layers.map(({ name, kind, shape }) => {
    const made = option(name);
    made.textContent = `${name} (${kind}, ${shape[1]} × ${shape[2]} cells)`;
    return made;
  }));
  const last = about.layers.find(({ name }) => name === recall("vtcav-layer"));
  state.layer = (last ?? about.layers[Math.floor((about.layers.length - 1) / 2)]).name;
  find("layer").value = state.layer;
  find("classes").replaceChildren(...about.classes.map(option));
  for (const text of about.skipped) notice(`Left out: ${text}`, { bad: false, lasting: true });
  const cut = (kind, example) => (kind === "erase" ? eraseRegion(example) : put(kind, [example], performance.now()));
  start(about.colours, cut, (least) => {
    tell(`That patch is too small: drag over at least ${least} pixels of the photo.`);
  });
  startFound({ after, choose, openPhoto, layer: toLayer });
  if (recall("vtcav-explorer-seen") !== "yes") intro(true);
  refresh();
  const first = about.pictures[0];
  if (first) await openPhoto(first.key);
  root.classList.add("ready");
};

begin();
