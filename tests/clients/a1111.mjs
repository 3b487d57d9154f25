// C1: a1111-webui-api.
import pkg from "a1111-webui-api";
import sharp from "sharp";
import { assert, address } from "./check.mjs";

const Api = pkg.default ?? pkg.StableDiffusionApi ?? pkg;
const api = new Api({ host: address.hostname, port: Number(address.port), protocol: "http", defaultSampler: "Euler a", defaultStepCount: 5 });
api.setAuth("somebody", "anything");

const painted = await api.txt2img({ prompt: "red cat, beach", width: 64, height: 64, steps: 5, seed: 7 });
assert.equal((await painted.image.metadata()).width, 64);
const info = typeof painted.info === "string" ? JSON.parse(painted.info) : painted.info;
assert.equal(info.seed, 7);
assert.equal(info.sampler_name, "Euler a");

const red = sharp({ create: { width: 64, height: 64, channels: 3, background: { r: 255, g: 0, b: 0 } } }).png();
const changed = await api.img2img({ init_images: [red], prompt: "red cat", width: 64, height: 64, steps: 5, seed: 7, denoising_strength: 0.5 });
assert.equal((await changed.image.metadata()).height, 64);

const options = await api.getOptions();
assert.match(options.sd_model_checkpoint, /^demo\.safetensors \[[0-9a-f]{10}\]$/);
const models = await api.getSdModels();
assert.equal(models[0].title, options.sd_model_checkpoint);
assert.ok((await api.getSamplers()).some((sampler) => sampler.name === "Euler a"));
assert.equal((await api.getProgress()).state.job_count, 0);
console.log("txt2img, img2img, options, models, samplers, progress");
