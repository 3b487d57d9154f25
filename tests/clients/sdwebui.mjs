// C3: node-sd-webui, which reads A1111's text of a picture by the place of its values.
import pkg from "node-sd-webui";
import { assert, base, sizeOf } from "./check.mjs";

const client = (pkg.default ?? pkg)({ apiUrl: base });
const { images } = await client.txt2img({
    prompt: "red cat, beach", negativePrompt: "night sky", seed: 11, steps: 5, width: 64, height: 64,
    samplingMethod: "Euler a", batchSize: 1, batchCount: 1, cfgScale: 6 });
assert.deepEqual(sizeOf(Buffer.from(images[0], "base64")), [64, 64]);
const told = await client.pngInfo({ imageData: "data:image/png;base64," + images[0] });
assert.equal(told.prompt, "red cat, beach");
assert.equal(told.negativePrompt, "night sky");
assert.equal(told.steps, 5);
console.log("txt2img and its text back");
