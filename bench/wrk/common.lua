-- What all scripts share: who asks, ids to take one by one, and the report, one line of JSON.
local common = {}

common.headers = {
  ["Content-Type"] = "application/json",
  ["X-Api-Key"] = os.getenv("BENCH_KEY"),
  ["X-Api-Secret"] = os.getenv("BENCH_SECRET"),
}

common.order = '{"amount": 10000, "currency": "INR", "receipt": "receipt-1", "notes": {"cart": "42"}}'

-- A function that gives the next id of the file BENCH_IDS: each thread takes every n-th of them, so that no id is
-- taken twice. With `again` it begins anew after the last one; else wrk ends there with exit code 3.
function common.ids(again)
  local threads, ids, number, taken = tonumber(os.getenv("BENCH_THREADS")), {}, 0, 0
  for id in io.lines(os.getenv("BENCH_IDS")) do
    if number % threads == thread_number then ids[#ids + 1] = id end
    number = number + 1
  end
  return function()
    taken = taken + 1
    if taken > #ids then
      if not again then os.exit(3) end
      taken = 1
    end
    return ids[taken]
  end
end

-- wrk runs `setup` once for each thread, before that thread's `init`, and `done` at the end.
local threads = 0
function setup(thread)
  thread:set("thread_number", threads)
  threads = threads + 1
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end

-- With a `response`, wrk hands each answer to Lua, which costs: only where a refusal is to be explained.
if os.getenv("BENCH_EXPLAIN") then
  function response(status, headers, body)
    if status > 299 then
      io.stderr:write(status, " ", body, "\n")
      os.exit(4)
    end
  end
end

return common
