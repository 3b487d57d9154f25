// C8: SillyTavern's server, asked as its own image extension asks it.
//     sillytavern.mjs LATENTD TAVERN FOLDER-OF-ITS-PACKAGE
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { sizeOf } from "./check.mjs";

const [latentd, tavern, folder] = process.argv.slice(2);
const auth = "somebody:anything"; // sent as Basic; latentd without keys has no use for it
const model = "demo.safetensors";
const small = { steps: 4, width: 64, height: 128 };

async function ask(path, body, signal) {
    const answer = await fetch(`${tavern}/api/sd${path}`, {
        method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify({ url: latentd, auth, ...body }) });
    const text = await answer.text();
    assert.equal(answer.status, 200, `${answer.status} ${text.slice(0, 500)}`);
    try {
        return JSON.parse(text);
    } catch {
        return text;
    }
}

const jobs = async () => (await (await fetch(`${latentd}/v1/jobs?limit=5`)).json()).jobs;

async function until(what, found, seconds = 60) {
    for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; await new Promise((done) => setTimeout(done, 50))) {
        const value = await found();
        if (value) return value;
    }
    throw new Error(`${seconds} s have passed without ${what}`);
}

let passed = 0;
let failed = 0;
async function call(name, run) {
    try {
        console.log(`ok ${name}: ${await run()}`);
        passed += 1;
    } catch (error) {
        console.log(`FAIL ${name}: ${error.message}`);
        failed += 1;
    }
}

/** Gives up a call once its job runs, and the state its job came to. */
async function giveUp(path, body) {
    const before = (await jobs())[0]?.id;
    const controller = new AbortController();
    const call = ask(path, body, controller.signal).then(() => "answered", (error) => error.name);
    const job = await until("a running job", async () => (await jobs()).find((each) => each.id !== before && each.status === "running"));
    controller.abort();
    assert.equal(await call, "AbortError");
    const ended = await until("the job's end", async () => (await jobs()).find((each) => each.id === job.id && !["running", "cancelling"].includes(each.status)));
    assert.equal(ended.status, "cancelled");
    return `job ${job.id} became ${ended.status}`;
}

const has = (list, ...names) => {
    for (const name of names) assert.ok(list.includes(name), `${name} is missing in ${JSON.stringify(list).slice(0, 300)}`);
    return `${list.length} names`;
};

// ---- As an A1111 server ------------------------------------------------------------------------

// What its extension sends by default, with fields that belong to other servers.
const automatic = {
    prompt: "red cat, beach", negative_prompt: "worst quality", sampler_name: "Euler a", scheduler: "Automatic", cfg_scale: 6, ...small,
    restore_faces: false, enable_hr: false, hr_upscaler: "Latent", hr_scale: 2, hr_additional_modules: [], denoising_strength: 0.7,
    hr_second_pass_steps: 0, seed: 12, override_settings: { CLIP_stop_at_last_layers: 2, forge_additional_modules: ["x"] },
    override_settings_restore_afterwards: true, clip_skip: 2, save_images: true, send_images: true, do_not_save_grid: false, do_not_save_samples: false };
const pictures = (answer) => answer.images.map((image) => sizeOf(Buffer.from(image, "base64")));
let title;

await call("ping", () => ask("/ping"));
await call("upscalers", async () => {
    const names = await ask("/upscalers");
    assert.deepEqual(names.slice(0, 2), ["None", "Latent"]);
    return `${names.length} names`;
});
await call("sd-next/upscalers", async () => has(await ask("/sd-next/upscalers"), "None", "Latent (nearest-exact)"));
await call("vaes", async () => `${(await ask("/vaes")).length} names`);
await call("samplers", async () => has(await ask("/samplers"), "Euler a", "DPM++ 2M"));
await call("schedulers", async () => has(await ask("/schedulers"), "automatic", "karras"));
await call("models", async () => {
    [{ value: title }] = await ask("/models");
    assert.match(title, /^demo\.safetensors \[[0-9a-f]{10}\]$/);
    return title;
});
await call("get-model", async () => {
    const now = await ask("/get-model");
    assert.equal(now, title); // the extension compares the two as strings
    return now;
});
await call("set-model", () => ask("/set-model", { model: title }));
await call("generate", async () => {
    const answer = await ask("/generate", automatic);
    assert.deepEqual(pictures(answer), [[64, 128]]);
    const info = JSON.parse(answer.info);
    assert.deepEqual([info.seed, info.clip_skip, info.sampler_name], [12, 2, "Euler a"]);
    assert.ok(!("url" in answer.parameters) && !("auth" in answer.parameters), "the address and password it leaks come back");
    return "one picture of 64x128";
});
await call("generate, second pass", async () => {
    const answer = await ask("/generate", { ...automatic, width: 64, height: 64, enable_hr: true });
    assert.deepEqual(pictures(answer), [[128, 128]]);
    return "one picture of 128x128";
});
await call("generate, given up", () => giveUp("/generate", { ...automatic, steps: 150, width: 256, height: 256 }));

// ---- As a ComfyUI server -----------------------------------------------------------------------

const workflow = async (values) => Object.entries(values).reduce((text, [name, value]) => text.replaceAll(`"%${name}%"`, JSON.stringify(value)),
    await ask("/comfy/workflow", { file_name: "Default_Comfy_Workflow.json" }).then((text) => typeof text === "string" ? text : JSON.stringify(text)));
const graph = async (more) => ({ prompt: `{ "prompt": ${await workflow({
    prompt: "red cat, beach", negative_prompt: "", model, sampler: "euler_ancestral", scheduler: "simple", scale: 6, seed: 8566257, ...small, ...more })} }` });

await call("comfy/ping", () => ask("/comfy/ping"));
await call("comfy/samplers", async () => has(await ask("/comfy/samplers"), "euler", "dpmpp_2m"));
await call("comfy/schedulers", async () => has(await ask("/comfy/schedulers"), "simple", "karras"));
await call("comfy/models", async () => has((await ask("/comfy/models")).map((each) => each.value), model));
await call("comfy/vaes", async () => `${(await ask("/comfy/vaes")).length} names`);
await call("comfy/workflow", async () => {
    const shipped = JSON.parse(readFileSync(`${folder}/default/content/Default_Comfy_Workflow.json`));
    assert.deepEqual(Object.keys(JSON.parse(await workflow({}))), Object.keys(shipped));
    return `${Object.keys(shipped).length} nodes`;
});
await call("comfy/generate", async () => {
    const { format, data } = await ask("/comfy/generate", await graph());
    assert.equal(format, "png");
    assert.deepEqual(sizeOf(Buffer.from(data, "base64")), [64, 128]);
    return "one picture of 64x128";
});
await call("comfy/generate, given up", async () => giveUp("/comfy/generate", await graph({ steps: 150, width: 256, height: 256 })));

// ---- As a stable-diffusion.cpp server ----------------------------------------------------------

await call("sdcpp/ping", () => ask("/sdcpp/ping"));
await call("sdcpp/models", async () => has((await ask("/sdcpp/models")).data.map((each) => each.id), "demo"));
await call("sdcpp/generate", async () => {
    const answer = await ask("/sdcpp/generate", { model: "demo", prompt: "red cat", negative_prompt: "", cfg_scale: 6, seed: -1, batch_size: 1,
        sampler_name: "euler_a", scheduler: "discrete", clip_skip: 1, ...small });
    assert.deepEqual(pictures(answer), [[64, 128]]);
    return "one picture of 64x128";
});
await call("drawthings/ping", () => ask("/drawthings/ping"));

console.log(`${passed} passed, ${failed} failed, 0 skipped`);
process.exit(failed ? 1 : 0);
