// C5: comfy-ui-client.
import { ComfyUIClient } from "comfy-ui-client";
import { assert, address, sizeOf } from "./check.mjs";

const graph = {
    3: { class_type: "KSampler", inputs: { cfg: 6, denoise: 1, latent_image: ["5", 0], model: ["4", 0], negative: ["7", 0], positive: ["6", 0], sampler_name: "euler", scheduler: "normal", seed: 8566257, steps: 5 } },
    4: { class_type: "CheckpointLoaderSimple", inputs: { ckpt_name: "demo.safetensors" } },
    5: { class_type: "EmptyLatentImage", inputs: { batch_size: 1, height: 64, width: 128 } },
    6: { class_type: "CLIPTextEncode", inputs: { clip: ["4", 1], text: "red cat, beach" } },
    7: { class_type: "CLIPTextEncode", inputs: { clip: ["4", 1], text: "night sky" } },
    8: { class_type: "VAEDecode", inputs: { samples: ["3", 0], vae: ["4", 2] } },
    9: { class_type: "SaveImage", inputs: { filename_prefix: "ComfyUI", images: ["8", 0] } },
};

const client = new ComfyUIClient(address.host, "baadbabe-b00b-4206-9420-deadd00d1337");
await client.connect();
const images = await client.getImages(graph);
assert.deepEqual(Object.keys(images), ["9"]);
assert.deepEqual(sizeOf(await images["9"][0].blob.arrayBuffer()), [128, 64]);
const info = await client.getObjectInfo("KSampler");
assert.ok(info.KSampler.input.required.sampler_name[0].includes("euler"));
assert.ok((await client.getSystemStats()).devices.length > 0);
assert.equal(typeof (await client.getPrompt()).exec_info.queue_remaining, "number");
await client.interrupt();
await client.disconnect();
console.log("a picture by its graph, object_info, stats, queue");
