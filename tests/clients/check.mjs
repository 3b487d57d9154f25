// What the scripts share: the address of the server under test and the size of a PNG.
import assert from "node:assert/strict";

export { assert };
export const base = process.argv[2];
export const address = new URL(base);

export function sizeOf(png) {
    const bytes = Buffer.from(png);
    assert.equal(bytes.subarray(1, 4).toString("latin1"), "PNG");
    return [bytes.readUInt32BE(16), bytes.readUInt32BE(20)];
}
