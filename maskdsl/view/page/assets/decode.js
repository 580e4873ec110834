// Decodes the blobs of `blobs.py` to typed arrays: base64, zlib, and sums of differences.

const ARRAYS = { i32: Int32Array, i64: BigInt64Array, f64: Float64Array, u8: Uint8Array };

class Blobs {
  constructor(list) {
    this.list = list;
    this.known = new Map();
  }

  /** A promise of the array with this number. */
  get(number) {
    if (!this.known.has(number)) this.known.set(number, decoded(...this.list[number]));
    return this.known.get(number);
  }
}

async function decoded(kind, length, text) {
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(length * ARRAYS[kind].BYTES_PER_ELEMENT);
  const reader = stream.getReader();
  for (let at = 0, chunk; !(chunk = await reader.read()).done; at += chunk.value.length) bytes.set(chunk.value, at);
  const array = new ARRAYS[kind](bytes.buffer);
  if (kind === "i32") for (let at = 1; at < length; at++) array[at] += array[at - 1];
  return array;
}
