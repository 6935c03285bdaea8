-- One request, the same for everybody: 10 candidates × 12 features, or with OO_BENCH_BODY=tasks 10 tasks by their fields.
-- `path` is wrk's own argument.
local rows = {}
for i = 1, 10 do
  if os.getenv("OO_BENCH_BODY") == "tasks" then
    rows[i] = string.format('{"id":"tip-%d","content":"Call number %d about the report","priority":%d,'
      .. '"created":"2026-11-%02dT08:00:00Z","due":"2026-12-%02d","effort_minutes":%d}', i, i, 1 + i % 4, i, i, 5 * i)
  else
    local features = {}
    for j = 1, 12 do features[j] = string.format("%.4f", math.abs(math.sin(i * 12 + j))) end
    rows[i] = string.format('{"id":"tip-%d","features":[%s]}', i, table.concat(features, ","))
  end
end
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = string.format('{"user_id":"user-17","candidates":[%s]}', table.concat(rows, ","))
bad = 0
function response(status) if status ~= 200 then bad = bad + 1 end end
local threads = {}
function setup(thread) table.insert(threads, thread) end
function done(summary, latency)
  local lost = 0
  for _, t in ipairs(threads) do lost = lost + (t:get("bad") or 0) end
  local e = summary.errors
  print(string.format("RESULT %d %.0f %.3f %.3f %d", summary.requests, summary.requests / (summary.duration / 1e6),
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, lost + e.connect + e.read + e.write + e.timeout))
end
