// All text goes in as textContent, never as markup, because names come from the user.
export const find = (id) => document.getElementById(id);
export const all = (selector, within = document) => [...within.querySelectorAll(selector)];
export const make = (tag, text = "", name = "") => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (name) element.className = name;
  return element;
};
export const drawn = (tag, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};
export const count = (n, noun, many = `${noun}s`) => `${n} ${n === 1 ? noun : many}`;
// decimals of a number; what they round to 0 has no sign
export const fixed = (x, digits = 2) => {
  const text = x.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
};
export const value = (x) => {
  if (x === 0) return "0";
  if (Math.abs(x) < 0.0005) return x > 0 ? "<0.001" : ">−0.001";
  return fixed(x, 3);
};

const token = new URLSearchParams(location.search).get("token") ?? "";

// -- requests to the program

export class Trouble extends Error {
  constructor(reason, answer = {}) {
    super(reason);
    this.answer = answer;
  }
}

const ask = async (path, options = {}) => {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { "X-Vtcav-Token": token, ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The program does not respond. If it has ended, start vtcav explore again and open the address that it prints.");
  }
  let answer;
  try { answer = await response.json(); } catch { answer = {}; }
  if (!response.ok) throw new Trouble(answer.error ?? `The program answered ${response.status}.`, answer);
  return answer;
};
export const get = (path, options) => ask(path, options);
export const send = (path, data, method = "POST", signal = undefined) => ask(path, {
  method, signal, body: JSON.stringify(data), headers: { "Content-Type": "application/json" },
});
export const remove = (path) => ask(path, { method: "DELETE" });
export const upload = (file) => ask(`api/pictures?name=${encodeURIComponent(file.name.slice(-80) || "picture")}`, {
  method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" },
});
export const address = (picture, { size = 1600, box = null, seen = false } = {}) => {
  const query = new URLSearchParams({ size, token });
  if (box) query.set("box", box.join(","));
  if (seen) query.set("seen", "true");
  return `api/pictures/${picture}?${query}`;
};
export const inputAddress = (picture) => `api/inputs/${picture}?${new URLSearchParams({ token })}`;

// -- messages to the user

export const tell = (text) => { find("status").textContent = text; };
export const notice = (text, { bad = true, lasting = false } = {}) => {
  const box = make("div", "", bad ? "notice bad" : "notice");
  const close = make("button", "Dismiss");
  close.type = "button";
  close.addEventListener("click", () => box.remove());
  box.append(make("p", text), close);
  const same = all("#notices p").some((p) => p.textContent === text);
  if (!same) find("notices").append(box);
  if (!lasting) setTimeout(() => box.remove(), 20000);
};

// -- storage in the browser, where it is allowed
export const recall = (key) => { try { return localStorage.getItem(key) ?? ""; } catch { return ""; } };
export const keep = (key, text) => { try { localStorage.setItem(key, text); } catch { /* not kept */ } };
