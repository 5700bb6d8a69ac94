// The latent vectors of a seed, bit for bit those of `vemcompress generate --seed`: NumPy's default_rng((seed, 7, 0)),
// a PCG64 (O'Neill, 2014) seeded by NumPy's SeedSequence, and its ziggurat (Marsaglia and Tsang, 2000) in float32.

const LATENT = 7; // as in vemcompress/data/latents.py
const M64 = (1n << 64n) - 1n, M128 = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

// SeedSequence's four 64-bit words for these 32-bit entropy words.
function words(entropy) {
  let hash = 0x43b0d7e5;
  const mixed = (value) => {
    value = (value ^ hash) >>> 0;
    hash = Math.imul(hash, 0x931e8875) >>> 0;
    value = Math.imul(value, hash) >>> 0;
    return (value ^ (value >>> 16)) >>> 0;
  };
  const joined = (x, y) => {
    const value = (Math.imul(x, 0xca01f9dd) - Math.imul(y, 0x4973f715)) >>> 0;
    return (value ^ (value >>> 16)) >>> 0;
  };
  const pool = [0, 1, 2, 3].map((i) => mixed(entropy[i] ?? 0));
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) if (from !== to) pool[to] = joined(pool[to], mixed(pool[from]));
  }
  let state = 0x8b51f9dd;
  const out = Array.from({ length: 8 }, (_, i) => {
    let value = (pool[i % 4] ^ state) >>> 0;
    state = Math.imul(state, 0x58f38ded) >>> 0;
    value = Math.imul(value, state) >>> 0;
    return BigInt((value ^ (value >>> 16)) >>> 0);
  });
  return [0, 1, 2, 3].map((i) => out[2 * i] | (out[2 * i + 1] << 32n));
}

// A function that gives PCG64's next 32 bits.
function pcg64(seed) {
  const [high, low, second, first] = words([seed >>> 0, LATENT, 0]);
  const increment = ((((second << 64n) | first) << 1n) | 1n) & M128;
  let state = (increment + ((high << 64n) | low)) & M128;
  const step = () => (state = (state * MULTIPLIER + increment) & M128);
  step();
  let kept = null; // the upper half, which comes second
  return () => {
    if (kept !== null) {
      const value = kept;
      kept = null;
      return value;
    }
    step();
    const turned = BigInt.asUintN(64, (state >> 64n) ^ state), by = state >> 122n;
    const value = ((turned >> by) | (turned << ((64n - by) & 63n))) & M64;
    kept = Number(value >> 32n);
    return Number(value & 0xffffffffn);
  };
}

// The ziggurat's 256 layers: widths for 23 bits, limits of the sure hits, heights.
const R = 3.6541528853610088, V = 0.00492867323399;
const density = (x) => Math.exp(-0.5 * x * x);
const WIDTH = new Float32Array(256), LIMIT = new Uint32Array(256), HEIGHT = new Float32Array(256);
{
  const scale = 2 ** 23, edge = V / density(R);
  LIMIT[0] = Math.trunc((R / edge) * scale);
  [WIDTH[0], WIDTH[255], HEIGHT[0], HEIGHT[255]] = [edge / scale, R / scale, 1, density(R)];
  for (let layer = 254, outer = R; layer >= 1; layer--) {
    const x = Math.sqrt(-2 * Math.log(V / outer + density(outer)));
    LIMIT[layer + 1] = Math.trunc((x / outer) * scale);
    [WIDTH[layer], HEIGHT[layer]] = [x / scale, density(x)];
    outer = x;
  }
  LIMIT[1] = 0;
}

const fraction = (bits) => (bits() >>> 8) / 2 ** 24; // float32 in [0, 1)

function normal(bits) {
  const round = Math.fround;
  for (;;) {
    const r = bits(), layer = r & 0xff, size = (r >>> 9) & 0x7fffff;
    let x = round(size * WIDTH[layer]);
    if ((r >>> 8) & 1) x = -x;
    if (size < LIMIT[layer]) return x;
    if (layer === 0) {
      for (;;) {
        const a = round(round(1 / R) * -round(Math.log1p(-fraction(bits))));
        const b = -round(Math.log1p(-fraction(bits)));
        if (round(b + b) > round(a * a)) return (size >>> 8) & 1 ? -round(round(R) + a) : round(round(R) + a);
      }
    }
    const height = round(round(round(HEIGHT[layer - 1] - HEIGHT[layer]) * fraction(bits)) + HEIGHT[layer]);
    if (height < Math.exp(-0.5 * x * x)) return x;
  }
}

// Vector number 0 of a seed: `size` numbers of N(0, 1), or uniform in [-1, 1].
export function vector(prior, size, seed) {
  const bits = pcg64(seed);
  return Float32Array.from({ length: size }, () => (prior === "uniform" ? fraction(bits) * 2 - 1 : normal(bits)));
}

// The vector at this share of the way: on the great circle for normal ones, else on the straight line.
export function along(first, last, share, prior) {
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const [a, b] = [Array.from(first), Array.from(last)];
  const lengths = Math.sqrt(dot(a, a) * dot(b, b));
  const angle = prior === "normal" && lengths > 0 ? Math.acos(Math.min(1, Math.max(-1, dot(a, b) / lengths))) : 0;
  const sine = Math.sin(angle);
  const [p, q] = sine < 1e-6 ? [1 - share, share] : [Math.sin((1 - share) * angle) / sine, Math.sin(share * angle) / sine];
  return Float32Array.from(a, (value, i) => p * value + q * b[i]);
}
