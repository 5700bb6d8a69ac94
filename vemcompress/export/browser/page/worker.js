// Runs the network in a worker, so that the page stays responsive. Messages in: {open: facts, threads},
// {photo: {data, width, height}} or {latent: {seed, seedTo, share, truncation}}; out: {opened, threads}, for each of the
// others {picture: {data, width, height}, ms, network}, or {failed}. `data` is RGBA, 8 bits a channel.

import * as ort from "./onnxruntime/ort.wasm.bundle.min.js";
import { along, vector } from "./latents.js";

let facts, session;

self.onmessage = async ({ data }) => {
  try {
    if (data.open) {
      await open(data.open, data.threads);
    } else {
      const begun = performance.now();
      const { picture, network } = data.photo ? await ofPhoto(data.photo) : await ofLatent(data.latent);
      const ms = performance.now() - begun;
      self.postMessage({ picture, ms, network }, [picture.data.buffer]);
    }
  } catch (error) {
    self.postMessage({ failed: String(error?.message ?? error) });
  }
};

async function open(told, threads) {
  facts = told;
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { wasm: new URL("./onnxruntime/ort-wasm-simd-threaded.wasm", import.meta.url).href };
  session = await ort.InferenceSession.create(new URL(facts.file, import.meta.url).href, {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
  });
  // The first run takes two to four times as long as the others.
  if (facts.kind === "latent") {
    await ofLatent({ seed: 0, seedTo: 1, share: 0, truncation: 1 });
  } else {
    const side = facts.only?.[0] ?? facts.size;
    await ofPhoto({ data: new Uint8ClampedArray(4 * side * side), width: side, height: side });
  }
  self.postMessage({ opened: true, threads: ort.env.wasm.numThreads });
}

async function ofPhoto({ data, width, height }) {
  const bytes = facts.dtype === "uint8";
  const whole = (side) => Math.ceil(Math.max(side, facts.min_size) / facts.multiple) * facts.multiple;
  const [rows, columns] = bytes ? [height, width] : [whole(height), whole(width)];
  const x = bytes ? interleaved(data, width, height) : planes(data, width, height, rows, columns);
  const shape = bytes ? [1, rows, columns, facts.channels] : [1, facts.channels, rows, columns];
  const { y, network } = await run({ [facts.input]: new ort.Tensor(facts.dtype, x, shape) });
  const grown = bytes ? y.dims[1] / rows : y.dims[2] / rows;
  return { picture: picture(y, width * grown, height * grown), network };
}

async function ofLatent({ seed, seedTo, share, truncation }) {
  const { latent, prior } = facts;
  const first = vector(prior, latent, seed);
  const z = share > 0 ? along(first, vector(prior, latent, seedTo), share, prior) : first;
  const feeds = {};
  if (facts.truncation) {
    feeds.truncation = new ort.Tensor("float32", Float32Array.of(truncation), []);
  } else {
    for (let i = 0; i < latent; i++) z[i] *= Math.fround(truncation);
  }
  feeds[facts.input] = new ort.Tensor("float32", z, [1, latent]);
  const { y, network } = await run(feeds);
  const [height, width] = facts.layout === "NHWC" ? [y.dims[1], y.dims[2]] : [y.dims[2], y.dims[3]];
  return { picture: picture(y, width, height), network };
}

async function run(feeds) {
  const begun = performance.now();
  const outputs = await session.run(feeds);
  return { y: outputs[session.outputNames[0]], network: performance.now() - begun };
}

// The levels of a network's channels at a pixel of RGBA: grey as Pillow has it, RGB, or RGBA.
function level(data, at, channel, channels) {
  if (channels > 1) return data[at + channel];
  return (data[at] * 19595 + data[at + 1] * 38470 + data[at + 2] * 7471 + 0x8000) >> 16;
}

function interleaved(data, width, height) {
  const channels = facts.channels;
  const x = new Uint8Array(width * height * channels);
  for (let pixel = 0, to = 0; pixel < width * height; pixel++) {
    for (let channel = 0; channel < channels; channel++) x[to++] = level(data, 4 * pixel, channel, channels);
  }
  return x;
}

// float32 C x rows x columns in the range that the network takes, the last row and column repeated.
function planes(data, width, height, rows, columns) {
  const { channels, range: [low, high] } = facts;
  const scale = (high - low) / 255;
  const x = new Float32Array(channels * rows * columns);
  let to = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let row = 0; row < rows; row++) {
      const line = 4 * width * Math.min(row, height - 1);
      for (let column = 0; column < columns; column++) {
        x[to++] = level(data, line + 4 * Math.min(column, width - 1), channel, channels) * scale + low;
      }
    }
  }
  return x;
}

// The upper left width x height pixels of a network's output as RGBA; scores of classes become colours.
function picture(y, width, height) {
  const last = facts.layout === "NHWC";
  const [rows, columns, channels] = last ? y.dims.slice(1) : [y.dims[2], y.dims[3], y.dims[1]];
  const step = last ? 1 : rows * columns;
  const [low, high] = y.type === "uint8" ? [0, 255] : facts.range;
  const scale = 255 / (high - low);
  const values = y.data;
  const data = new Uint8ClampedArray(4 * width * height); // rounds and limits what it is given
  for (let row = 0, to = 0; row < height; row++) {
    for (let column = 0; column < width; column++, to += 4) {
      const from = (row * columns + column) * (last ? channels : 1);
      data[to + 3] = 255;
      if (facts.colours) {
        let best = 0;
        for (let channel = 1; channel < channels; channel++) {
          if (values[from + channel * step] > values[from + best * step]) best = channel;
        }
        data.set(facts.colours[best], to);
      } else {
        for (let channel = 0; channel < Math.max(3, channels); channel++) {
          data[to + channel] = (values[from + (channels === 1 ? 0 : channel) * step] - low) * scale;
        }
      }
    }
  }
  return { data, width, height };
}
