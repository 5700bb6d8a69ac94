// Photos, from files or from the camera: what is chosen, at which size, and how its picture is compared. `page.js` sends
// it to the worker; the two share their names.

"use strict";

let photo = null, stream = null, frames = []; // the last frames of the camera: when each was shown, and its milliseconds

function preparePhotos() {
  show("photos", "drop");
  const sizes = at("size");
  for (const side of facts.sizes) sizes.add(new Option(`${side} px`, side, side === facts.size, side === facts.size));
  if (!facts.only) sizes.add(new Option("full size", 0));
  if (sizes.options.length < 2) sizes.parentElement.hidden = true;
  sizes.onchange = () => { frames = []; if (photo) askPhoto(photo); };
  at("file").onchange = ({ target }) => { if (target.files[0]) openPhoto(target.files[0]); target.value = ""; };
  document.ondragover = (event) => { event.preventDefault(); at("stage").classList.add("over"); };
  document.ondragleave = () => at("stage").classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    at("stage").classList.remove("over");
    const file = event.dataTransfer.files[0];
    if (file) openPhoto(file);
  };
  at("wipe").oninput = ({ target }) => at("stage").style.setProperty("--at", `${target.value}%`);
  at("camera").onclick = () => (stream ? stopCamera() : startCamera());
  at("camera").hidden = !navigator.mediaDevices?.getUserMedia; // browsers offer it only on https and localhost
  at("save").onclick = save;
}

async function openPhoto(file) {
  stopCamera();
  try {
    photo = await createImageBitmap(file); // upright, as its EXIF says
  } catch {
    say(`${file.name} is not a picture that this browser can read; choose a JPEG or a PNG.`);
    return;
  }
  askPhoto(photo);
}

// Draw a photo or a camera's frame at the chosen size, and ask for its picture.
function askPhoto(source, width = source.width, height = source.height) {
  const side = Number(at("size").value);
  const scale = side ? Math.min(1, side / Math.max(width, height)) : 1;
  const [high, wide] = facts.only ?? [height, width].map((n) => Math.max(1, Math.round(n * scale)));
  const canvas = at("input"), pen = canvas.getContext("2d", { willReadFrequently: true });
  [canvas.width, canvas.height] = [wide, high];
  if (facts.channels < 4) {
    pen.fillStyle = "#fff"; // under what is transparent
    pen.fillRect(0, 0, wide, high);
  }
  pen.imageSmoothingQuality = "high";
  pen.drawImage(source, 0, 0, wide, high);
  show("input", "line", "left", "right", "wipe");
  at("drop").hidden = true;
  const shape = [width, height], stage = at("stage");
  stage.style.setProperty("--shape", shape.join(" / "));
  stage.style.setProperty("--ratio", shape[0] / shape[1]);
  const { data } = pen.getImageData(0, 0, wide, high);
  if (!stream) say("Computing …");
  ask({ photo: { data, width: wide, height: high } });
}

async function startCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    say(`The camera cannot be used (${error.message}).`);
    return;
  }
  [frames, photo] = [[], null];
  at("camera").textContent = "Stop camera";
  at("video").srcObject = stream;
  await at("video").play();
  frame();
}

function frame() {
  const video = at("video");
  if (!stream || busy) return;
  if (video.videoWidth) askPhoto(video, video.videoWidth, video.videoHeight);
  else requestAnimationFrame(frame);
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  at("camera").textContent = "Use camera";
}

function rateOf(ms) {
  frames = [...frames, { ms, at: performance.now() }].slice(-20);
  const mean = Math.round(frames.reduce((sum, one) => sum + one.ms, 0) / frames.length);
  if (frames.length === 1) return `${mean} ms a frame`;
  const each = (frames.at(-1).at - frames[0].at) / (frames.length - 1);
  return `${mean} ms a frame, ${(1000 / each).toFixed(1)} a second`;
}
