-- A feedback a request, each for a decision of its own: decisions are asked for and answered in turn, so every second
-- request waits for the disk. Only the feedbacks are counted. No tip comes twice: what is done does not come back.
local body = '{"user_id":"user-%d","candidates":[{"id":"a-%s","features":[%s]},{"id":"b-%s","features":[%s]}]}'
local ones, zeros = string.rep("1,", 11) .. "1", string.rep("0,", 11) .. "0"
if os.getenv("OO_BENCH_BODY") == "tasks" then
  body = '{"user_id":"user-%d","candidates":[{"id":"a-%s","priority":4,"effort_minutes":%s},'
    .. '{"id":"b-%s","effort_minutes":%s}]}'
  ones, zeros = "5", "120"
end
local threads = {}
function setup(thread) thread:set("number", #threads); table.insert(threads, thread) end
function init() asked, told, waiting, bad = 0, 0, {}, 0 end
function request()
  local id = table.remove(waiting)
  if id then
    return wrk.format("POST", "/feedback", { ["content-type"] = "application/json" },
      string.format('{"decision_id":"%s","reaction":"done","dwell_ms":30000,"feedback_id":"f-%s"}', id, id))
  end
  asked = asked + 1
  local tag = string.format("%d-%d-%d", os.time(), number, asked)
  return wrk.format("POST", "/recommend", { ["content-type"] = "application/json" },
    string.format(body, (asked * 7 + number) % 1000, tag, ones, tag, zeros))
end
function response(status, headers, text)
  if status ~= 200 then bad = bad + 1 return end
  local id = string.match(text, '"tip":{.-"decision_id":"([^"]+)"')
  if id then table.insert(waiting, id)
  elseif string.find(text, '"status":"learned"', 1, true) then told = told + 1
  else bad = bad + 1 end
end
function done(summary, latency)
  local feedbacks, lost = 0, 0
  for _, t in ipairs(threads) do feedbacks = feedbacks + t:get("told"); lost = lost + t:get("bad") end
  print(string.format("RESULT %d %.0f %.3f %.3f %d", feedbacks, feedbacks / (summary.duration / 1e6),
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, lost))
end
