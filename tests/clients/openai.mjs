// C4: openai.
import OpenAI, { toFile } from "openai";
import { assert, base, sizeOf } from "./check.mjs";

const client = new OpenAI({ baseURL: base + "/v1", apiKey: "sk-anything", maxRetries: 1 });
const bytes = (item) => Buffer.from(item.b64_json, "base64");

const two = await client.images.generate({ model: "gpt-image-1", prompt: "red cat, beach", n: 2, size: "64x128", steps: 4 });
assert.equal(two.data.length, 2);
for (const item of two.data)
    assert.deepEqual(sizeOf(bytes(item)), [64, 128]);

const events = [];
for await (const event of await client.images.generate({ model: "gpt-image-1", prompt: "red cat", size: "64x64", steps: 9, stream: true, partial_images: 2 }))
    events.push(event);
assert.equal(events.at(-1).type, "image_generation.completed");
assert.ok(events.some((event) => event.type === "image_generation.partial_image"));
assert.deepEqual(sizeOf(bytes(events.at(-1))), [64, 64]);

const picture = () => toFile(bytes(two.data[0]), "a.png", { type: "image/png" });
const edited = await client.images.edit({ model: "gpt-image-1", image: await picture(), prompt: "blue cat", steps: 4 });
assert.deepEqual(sizeOf(bytes(edited.data[0])), [64, 128]);
const both = await client.images.edit({ model: "gpt-image-1", image: [await picture(), await picture()], prompt: "blue cat", steps: 4 });
assert.match(both.warnings.join(" "), /first of 2/);
const varied = await client.images.createVariation({ image: await picture(), n: 1, steps: 4 });
assert.equal(varied.data.length, 1);

const models = [];
for await (const model of await client.models.list())
    models.push(model.id);
assert.deepEqual(models, ["demo"]);
assert.equal((await client.models.retrieve("demo")).id, "demo");
await assert.rejects(client.images.generate({ prompt: "x", model: "nothing" }), OpenAI.NotFoundError);
await assert.rejects(client.images.generate({ prompt: "x", n: 11 }), OpenAI.BadRequestError);

const bare = new OpenAI({ baseURL: base, apiKey: "sk-anything" });
assert.deepEqual((await bare.models.list()).data.map((model) => model.id), ["demo"]);
assert.equal((await bare.images.generate({ prompt: "red cat", size: "64x64", steps: 2 })).data.length, 1);

const [keyed, key] = process.argv.slice(3); // a server that wants a key, and lets it have one job in the queue
const stranger = new OpenAI({ baseURL: keyed + "/v1", apiKey: "sk-anything" });
await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
const known = new OpenAI({ baseURL: keyed + "/v1", apiKey: key, maxRetries: 1 });
const leave = new AbortController();
const long = () => known.images.generate({ prompt: "red cat", size: "64x64", steps: 150 }, { signal: leave.signal }).catch((error) => error);
const waiting = [long()];
const authorization = { headers: { Authorization: `Bearer ${key}` } };
const states = async () => (await (await fetch(`${keyed}/v1/jobs`, authorization)).json()).jobs.map((job) => job.status).join();
const until = async (wanted) => {
    for (let tries = 0; tries < 300 && await states() !== wanted; tries += 1) await new Promise((done) => setTimeout(done, 100));
    assert.equal(await states(), wanted);
};
await until("running");
waiting.push(long());
await until("queued,running");
await assert.rejects(known.images.generate({ prompt: "red cat", size: "64x64", steps: 2 }), OpenAI.RateLimitError);
leave.abort();
for (const error of await Promise.all(waiting)) assert.ok(error instanceof OpenAI.APIUserAbortError, String(error));
await until("cancelled,cancelled");
console.log("generate, stream, edit, variation, models, errors, without /v1, a wrong key, too much, given up");
