// The page: photos (`photos.js`) and latent vectors go to the worker, one at a time, and its pictures are shown.

"use strict";
const at = (id) => document.getElementById(id);
const say = (text) => { at("status").textContent = text; };
const show = (...ids) => ids.forEach((id) => { at(id).hidden = false; });

let facts, worker, threads, busy = null, waiting = null, shown = 0;

start().catch((error) => say(`This demo cannot start: ${error.message}.`));

async function start() {
  if (location.protocol === "file:") {
    at("lead").textContent = "";
    say("Browsers run this page only from a web server, not from a file. Start one in this folder, for example with " +
      "`vemcompress demo --serve -o .` or `python3 -m http.server`, and open the address that it prints.");
    return;
  }
  const answer = await fetch("model.json");
  if (!answer.ok) throw new Error(`model.json: ${answer.status}`);
  facts = await answer.json();
  describe();
  (facts.kind === "latent" ? prepareLatents : preparePhotos)();
  // Threads share memory, which browsers allow only if the server isolates the page. Use half of the cores, because the
  // others may be busy or slow; ?threads=N in the address sets another number.
  const wished = Number(new URLSearchParams(location.search).get("threads"));
  const half = Math.min(4, Math.ceil((navigator.hardwareConcurrency || 1) / 2));
  threads = self.crossOriginIsolated ? wished || half : 1;
  await open();
  if (facts.kind === "latent") askLatent();
}

// Start the worker. If its threads or a large picture make it fail, it is started again.
async function open() {
  say("Loading the network and warming it up …");
  busy = {}; // a photo that is chosen now waits
  worker?.terminate();
  worker = new Worker("worker.js", { type: "module" });
  const opened = new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.opened ? resolve(data.threads) : reject(new Error(data.failed)));
    worker.onerror = (event) => reject(new Error(event.message || "its worker cannot be started"));
  });
  worker.postMessage({ open: facts, threads });
  try {
    threads = await opened;
  } catch (error) {
    if (threads === 1) throw error;
    threads = 1;
    return open();
  }
  worker.onmessage = ({ data }) => (data.failed ? failed(data) : drawn(data));
  worker.onerror = (event) => failed({ failed: event.message || "the worker has stopped" });
  tellRuntime();
  document.body.dataset.ready = "yes";
  say(facts.kind === "latent" ? "Ready." : "Ready: choose a photo, or use the camera.");
  const next = waiting;
  [busy, waiting] = [null, null];
  if (next) ask(next);
}

// One picture at a time: while the worker is `busy`, only the newest other request waits.
function ask(request) {
  if (busy) { waiting = request; return; }
  busy = request.photo ? { width: request.photo.width, height: request.photo.height } : {};
  worker.postMessage(request, request.photo ? [request.photo.data.buffer] : []);
}

function drawn({ picture, ms, network }) {
  const [given, next] = [busy, waiting];
  [busy, waiting] = [null, null];
  if (!next?.photo) { // else its input is shown already
    paint(at("output"), picture);
    show("output");
    at("stage").classList.remove("empty");
    for (const id of ["save", "save-drawn"]) at(id).disabled = false;
    say(told(given, picture, ms, network));
  }
  if (next) ask(next);
  else if (stream) requestAnimationFrame(frame);
  document.body.dataset.shown = ++shown; // how many pictures, for tests of this page
}

function told(given, { width, height }, ms, network) {
  const sides = (across, down) => `${across}\u00a0×\u00a0${down}`;
  const size = facts.kind === "latent" ? sides(width, height)
    : `${sides(given.width, given.height)} → ${sides(width, height)}`;
  if (!stream) return `${Math.round(ms)} ms a frame (network ${Math.round(network)} ms), ${size} px`;
  return `${rateOf(ms)}, ${size} px`;
}

async function failed({ failed: why }) {
  [busy, waiting] = [null, null];
  stopCamera();
  const advice = facts.kind === "latent" ? "" : " Choose a smaller size: memory may not be enough for this one.";
  try {
    await open(); // WebAssembly is not usable after it has run out of memory
    say(`The network did not finish (${why}).${advice}`);
  } catch (error) {
    say(`The network stopped and cannot be started again (${error.message}); reload this page.`);
  }
}

function paint(canvas, { data, width, height }) {
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
}

// Latent vectors.

function prepareLatents() {
  show("latents");
  at("stage").classList.add("square");
  at("stage").style.setProperty("--most", `${8 * facts.sides[1]}px`); // small pictures stay small
  for (const id of ["seed", "seed-to", "share", "truncation"]) at(id).oninput = askLatent;
  at("random").onclick = () => {
    const any = () => Math.floor(Math.random() * 2 ** 31);
    [at("seed").value, at("seed-to").value, at("share").value] = [any(), any(), 0];
    askLatent();
  };
  at("save-drawn").onclick = save;
}

function askLatent() {
  const number = (id) => Math.min(2 ** 31 - 1, Math.max(0, Math.trunc(Number(at(id).value)) || 0));
  const [share, truncation] = [Number(at("share").value), Number(at("truncation").value)];
  at("share-at").textContent = `${Math.round(100 * share)} %`;
  at("truncation-at").textContent = truncation.toFixed(2);
  ask({ latent: { seed: number("seed"), seedTo: number("seed-to"), share, truncation } });
}

function save() {
  at("output").toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "picture.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

// Texts about the network and the machine.

function describe() {
  document.title = at("title").textContent = facts.title;
  const does = { latent: "draws pictures from numbers", image: "changes photos" }[facts.kind];
  const grown = facts.scale > 1 ? `enlarges photos ${facts.scale} times` : does;
  at("lead").textContent = `A neural network of ${size(facts.bytes)} that ${grown}, here in your browser: ` +
    (facts.kind === "latent" ? "nothing is sent anywhere." : "your photos do not leave this device.");
  for (const [name, value] of facts.shown) {
    const term = document.createElement("dt"), text = document.createElement("dd");
    [term.textContent, text.textContent] = [name, value];
    at("facts").append(term, text);
  }
}

function size(bytes) {
  return bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function tellRuntime() {
  const count = threads === 1 ? "1 thread" : `${threads} threads`;
  const why = threads > 1 || self.crossOriginIsolated ? "" : ": this server does not send the two headers that threads " +
    "need (Cross-Origin-Opener-Policy: same-origin, Cross-Origin-Embedder-Policy: require-corp)";
  at("runtime").textContent = `Computed by ONNX Runtime Web ${facts.runtime} (MIT licence) in WebAssembly, ${count}${why}.`;
}
