-- What wrk sends for tests/load/figures.py: `wrk -s press.lua URL -- WORK PAIRS DELAY`. WORK is
-- "submit" (a job of its own in every call, the keys in turn), "graph" (the same as a ComfyUI client
-- sends it), "poll" (the jobs in turn, each with
-- its owner's key) or "plain"; PAIRS is a file of lines "KEY JOB"; DELAY the pause of a connection
-- in milliseconds. Ends with one line of JSON.

local threads = {}
local graph = '{"prompt":{"4":{"class_type":"CheckpointLoaderSimple","inputs":{"ckpt_name":"scripted.safetensors"}},' ..
    '"5":{"class_type":"EmptyLatentImage","inputs":{"width":64,"height":64,"batch_size":1}},' ..
    '"6":{"class_type":"CLIPTextEncode","inputs":{"text":"a cat","clip":["4",1]}},' ..
    '"7":{"class_type":"CLIPTextEncode","inputs":{"text":"","clip":["4",1]}},' ..
    '"3":{"class_type":"KSampler","inputs":{"seed":%d,"steps":1,"cfg":7,"sampler_name":"euler","scheduler":"normal",' ..
    '"denoise":1,"model":["4",0],"positive":["6",0],"negative":["7",0],"latent_image":["5",0]}},' ..
    '"8":{"class_type":"VAEDecode","inputs":{"samples":["3",0],"vae":["4",2]}},' ..
    '"9":{"class_type":"SaveImage","inputs":{"filename_prefix":"ComfyUI","images":["8",0]}}}}'

function setup(thread)
    thread:set("number", #threads)
    table.insert(threads, thread)
end

function init(args)
    work, pause = args[1], tonumber(args[3])
    pairs_of = {}
    count, good, other = 0, 0, 0
    if args[2] ~= "-" then
        for line in io.lines(args[2]) do
            local key, job = line:match("^(%S+) ?(%S*)$")
            table.insert(pairs_of, {key = key, job = job})
        end
    end
    if pause == 0 then
        delay = nil
    end
end

function delay()
    return pause
end

function request()
    count = count + 1
    if work == "plain" then
        return wrk.format("GET", "/healthz")
    end
    local pair = pairs_of[count % #pairs_of + 1]
    local headers = {Authorization = "Bearer " .. pair.key, ["Content-Type"] = "application/json"}
    if work == "poll" then
        return wrk.format("GET", "/v1/jobs/" .. pair.job, headers)
    end
    if work == "graph" then
        return wrk.format("POST", "/prompt", headers, string.format(graph, number * 10000000 + count))
    end
    local body = string.format('{"prompt":"a cat","width":64,"height":64,"steps":1,"seed":%d}',
                               number * 10000000 + count)
    return wrk.format("POST", "/v1/jobs", headers, body)
end

function response(status)
    if status < 300 then
        good = good + 1
    else
        other = other + 1
    end
end

function done(summary, latency)
    local good_all, other_all = 0, 0
    for _, thread in ipairs(threads) do
        good_all = good_all + thread:get("good")
        other_all = other_all + thread:get("other")
    end
    local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    print(string.format('{"good":%d,"other":%d,"errors":%d,"seconds":%.3f,"median_ms":%.2f,"late_ms":%.2f}', good_all,
                        other_all, errors, summary.duration / 1e6, latency:percentile(50) / 1e3,
                        latency:percentile(99) / 1e3))
end
