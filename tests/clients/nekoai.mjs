// C7: nekoai-js (AGPL-3.0; a tool of this test, linked to nothing).
import { NovelAI, Model } from "nekoai-js";
import { assert, base, sizeOf } from "./check.mjs";

function texts(png) {
    const bytes = Buffer.from(png), found = {};
    for (let at = 8; at < bytes.length;) {
        const size = bytes.readUInt32BE(at), kind = bytes.toString("latin1", at + 4, at + 8);
        if (kind === "tEXt") {
            const [key, value] = bytes.toString("latin1", at + 8, at + 8 + size).split("\0");
            found[key] = value;
        }
        at += size + 12;
    }
    return found;
}

const client = new NovelAI({ token: "pst-anything", host: base });
const asked = { prompt: "red cat, beach", width: 64, height: 128, steps: 4, seed: 1234567, n_samples: 1 };
for (const model of [Model.V3, Model.V4_5]) { // a ZIP, and messages
    const images = await client.generateImage({ ...asked, model });
    assert.equal(images.length, 1);
    assert.deepEqual(sizeOf(images[0].data), [64, 128]);
    const comment = JSON.parse(texts(images[0].data).Comment);
    assert.equal(comment.seed, 1234567);
    assert.equal(comment.steps, 4);
}
console.log("a picture as ZIP and as messages, its seed in the metadata");
