// The page: one conversation, and the steps of its last answer. It asks /v1/chat/completions (or
// /v1/completions) for steps, keeps them, and draws the answer as it stood after any of them.
"use strict";

const $ = (id) => document.getElementById(id);
const policies = ["threshold", "schedule", "edit", "origin", "maskgit", "margin", "entropy", "sequential", "static",
  "dynamic", "entropy-bound", "factor", "hierarchy", "credit", "first-hitting", "multi-block", "levenshtein"];

let model = null;     // its card of /v1/models
let messages = [];    // the conversation
let answer = null;    // the last one: {cells, steps, box, text, usage, done}
let running = null;   // AbortController of the answer being made
let playing = 0;      // timer of Play

function headers() {
  const all = { "Content-Type": "application/json" };
  if ($("key").value) all.Authorization = "Bearer " + $("key").value;
  return all;
}

function complain(text) {
  $("fault").textContent = text;
  $("fault").hidden = !text;
}

async function findModel() {
  try {
    const reply = await fetch("/v1/models", { headers: headers() });
    const body = await reply.json();
    if (reply.ok) {
      model = body.data[0];
      $("model").textContent = model.id + " \u00b7 " + model.architecture + " \u00b7 " + model.policy;
      $("threshold").value = model.threshold;
      showThreshold();
      return;
    }
    $("model").textContent = body.error.message;
  } catch (fault) {
    $("model").textContent = "the server does not answer";
  }
  setTimeout(findModel, 1000);
}

function showThreshold() {
  $("threshold-value").textContent = Number($("threshold").value).toFixed(2);
}

function addTurn(role, text) {
  const box = document.createElement("div");
  box.className = "turn " + role;
  box.textContent = text;
  $("turns").append(box);
  $("hint").hidden = true;
  return box;
}

// ---- The answer at a step ------------------------------------------------------------------------

// States of the cells after n steps: token text, probability, the step that wrote it last, an edit?
function cellsAt(n) {
  const cells = [];
  let end = 0;
  for (let i = 0; i < n; i++) {
    const step = answer.steps[i];
    end = Math.max(end, step.end);
    for (const change of step.changes)
      cells[change.position] = change.text === undefined ? null : { ...change, step: i };
  }
  const next = answer.steps[n];
  if (next) end = Math.max(end, next.end); // the block that is about to be filled
  return { cells, end: Math.min(end, answer.limit) };
}

// Once the answer has ended, what lies behind its last token is no part of it.
function lengthShown(end) {
  return answer.done && answer.length >= 0 ? Math.min(end, answer.length) : end;
}

function draw(n) {
  const { cells, end } = cellsAt(n);
  const last = n === answer.steps.length && answer.done;
  const box = answer.box;
  const shown = lengthShown(end);
  while (box.children.length > shown) box.lastChild.remove();
  while (box.children.length < shown) box.append(document.createElement("span"));
  for (let i = 0; i < shown; i++) {
    const cell = cells[i], span = box.children[i];
    let name = "cell", text = "", title = "";
    if (!cell || cell.token === answer.mask) {
      name += " mask";
    } else {
      text = cell.text;
      name += " s" + (cell.probability < 0.5 ? 0 : cell.probability < 0.8 ? 1 : cell.probability < 0.95 ? 2 : 3);
      if (!last && cell.step === n - 1) name += cell.edit ? " edit" : " new";
      title = "step " + (cell.step + 1) + ", " + (100 * cell.probability).toFixed(1) + " %" + (cell.edit ? ", edited" : "");
    }
    if (span.className !== name) span.className = name;
    if (span.textContent !== text) span.textContent = text;
    if (span.title !== title) span.title = title;
  }
  $("step").max = answer.steps.length;
  $("step").value = n;
  $("place").textContent = n + " / " + answer.steps.length;
  drawChart(n);
}

function drawChart(n) {
  const canvas = $("chart"), ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  pen.scale(ratio, ratio);
  const counts = answer.steps.map((s) => s.changes.length);
  const most = Math.max(1, ...counts), bar = Math.min(16, width / Math.max(1, counts.length));
  counts.forEach((count, i) => {
    const edits = answer.steps[i].changes.filter((c) => c.edit).length;
    const whole = (height - 2) * count / most, part = (height - 2) * edits / most;
    pen.globalAlpha = i < n ? 1 : 0.3;
    pen.fillStyle = style.getPropertyValue("--accent");
    pen.fillRect(i * bar, height - whole, Math.max(1, bar - 1), whole - part);
    pen.fillStyle = style.getPropertyValue("--edit");
    pen.fillRect(i * bar, height - part, Math.max(1, bar - 1), part);
  });
}

function showNumbers() {
  const n = answer.steps.length;
  const commits = answer.steps.reduce((sum, s) => sum + s.changes.filter((c) => !c.edit).length, 0);
  const edits = answer.steps.reduce((sum, s) => sum + s.changes.filter((c) => c.edit).length, 0);
  const per = answer.usage ? answer.usage.tokens_per_forward : n ? commits / n : 0;
  const seconds = (answer.ended - answer.began) / 1000;
  let text = n + " forwards, " + per.toFixed(2) + " tokens per forward";
  if (edits) text += ", " + edits + " edits";
  if (answer.usage) text += ", " + answer.usage.completion_tokens + " tokens in " + seconds.toFixed(2) + " s";
  if (answer.seed !== undefined) text += ", seed " + answer.seed;
  $("numbers").textContent = text;
}

// ---- Asking --------------------------------------------------------------------------------------

function number(id, name, body) {
  if ($(id).value !== "") body[name] = Number($(id).value);
}

// "The ___ sat down." asks for what is between; null where there is no gap.
function gapOf(text) {
  const found = text.match(/_{3,}/);
  return found && { before: text.slice(0, found.index), behind: text.slice(found.index + found[0].length) };
}

// Where the cells of the answer go: into a turn, or between the two parts of a text.
function addAnswer(gap) {
  const box = addTurn("assistant", "");
  if (!gap) return box;
  const cells = document.createElement("span");
  box.append(gap.before, cells, gap.behind);
  return cells;
}

function requestBody(text) {
  const body = { model: model.id, stream: true, stream_options: { include_usage: true }, unmask: { events: "steps" } };
  if ($("policy").value) body.policy = $("policy").value;
  if ($("threshold").dataset.touched) body.threshold = Number($("threshold").value);
  number("temperature", "temperature", body);
  number("block", "block", body);
  number("seed", "seed", body);
  const gap = gapOf(text);
  if (gap) {
    body.prompt = gap.before;
    body.suffix = gap.behind;
    // All of a gap is filled: as much as is asked for, or as the block holds, or a few words.
    if ($("max-tokens").dataset.touched) number("max-tokens", "max_tokens", body);
    else if (model.attention === "full") body.max_tokens = 16;
    return body;
  }
  number("max-tokens", "max_tokens", body);
  if ($("raw").checked) body.prompt = text;
  else body.messages = messages;
  return body;
}

function takeChunk(chunk) {
  if (chunk.error) throw new Error(chunk.error.message);
  const note = chunk.unmask || {}, choice = chunk.choices[0];
  if (note.max_tokens !== undefined) {
    answer.limit = note.max_tokens;
    answer.mask = note.mask_token;
    answer.seed = note.seed;
  }
  if (choice) answer.text += (choice.delta ? choice.delta.content : choice.text) || "";
  if (chunk.usage) {
    answer.usage = chunk.usage;
    answer.length = chunk.usage.completion_tokens;
  }
  if (!note.step) return;
  const wasLast = Number($("step").value) === answer.steps.length;
  answer.steps.push(note.step);
  $("replay").hidden = false;
  if (wasLast) draw(answer.steps.length);
  showNumbers();
}

async function readStream(reply) {
  const reader = reply.body.getReader(), decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events)
      if (event.startsWith("data: ") && event !== "data: [DONE]") takeChunk(JSON.parse(event.slice(6)));
  }
}

async function ask(text) {
  const gap = gapOf(text), isChat = !$("raw").checked && !gap;
  complain("");
  clearInterval(playing);
  if (answer) answer.box.classList.add("plain");
  if (isChat) messages.push({ role: "user", content: text });
  addTurn("user", text);
  answer = { steps: [], text: "", limit: Infinity, mask: -1, length: -1, done: false, usage: null, began: performance.now(),
    ended: 0, box: addAnswer(gap) };
  $("step").value = $("step").max = 0;
  running = new AbortController();
  $("send").textContent = "Stop";
  try {
    const body = requestBody(text);
    const reply = await fetch(isChat ? "/v1/chat/completions" : "/v1/completions",
      { method: "POST", headers: headers(), body: JSON.stringify(body), signal: running.signal });
    if (!reply.ok) throw new Error((await reply.json()).error.message);
    await readStream(reply);
    answer.done = true;
    if (isChat) messages.push({ role: "assistant", content: answer.text });
  } catch (fault) {
    if (isChat) messages.pop(); // the question is not part of what follows
    complain(fault.name === "AbortError" ? "stopped" : fault.message);
  }
  answer.ended = performance.now();
  running = null;
  $("send").textContent = "Send";
  if (answer.steps.length) {
    draw(answer.steps.length);
    showNumbers();
  }
  document.querySelector("main").scrollTop = 1e9;
}

function submit() {
  const text = $("prompt").value;
  if (running) {
    running.abort();
  } else if (!model) {
    complain("the model is still being loaded");
  } else if (text.trim()) {
    $("prompt").value = "";
    ask(text);
  }
}

function forget() {
  if (running) running.abort();
  messages = [];
  answer = null;
  document.querySelectorAll(".turn").forEach((turn) => turn.remove());
  $("replay").hidden = true;
  $("hint").hidden = false;
  complain("");
  $("prompt").focus();
}

function play() {
  clearInterval(playing);
  if (!answer || !answer.steps.length) return;
  let n = 0;
  draw(0);
  playing = setInterval(() => {
    if (!answer || ++n > answer.steps.length) clearInterval(playing);
    else draw(n);
  }, Math.max(40, Math.min(400, 6000 / answer.steps.length)));
}

for (const name of policies) $("policy").append(new Option(name, name));
$("ask").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) running.abort();
  if (event.altKey && event.code === "KeyN") { event.preventDefault(); forget(); }
  if (event.altKey && event.code === "KeyP") { event.preventDefault(); play(); }
});
$("threshold").addEventListener("input", () => { $("threshold").dataset.touched = "1"; showThreshold(); });
$("max-tokens").addEventListener("input", () => { $("max-tokens").dataset.touched = "1"; });
$("step").addEventListener("input", () => { clearInterval(playing); if (answer) draw(Number($("step").value)); });
$("play").addEventListener("click", play);
$("new").addEventListener("click", forget);
window.addEventListener("resize", () => { if (answer && answer.steps.length) drawChart(Number($("step").value)); });
showThreshold();
findModel();
// "/#ask=TEXT" asks at once: for links, and for the test of this page.
if (location.hash.startsWith("#ask=")) {
  const text = decodeURIComponent(location.hash.slice(5));
  const wait = setInterval(() => { if (model) { clearInterval(wait); ask(text); } }, 50);
}
