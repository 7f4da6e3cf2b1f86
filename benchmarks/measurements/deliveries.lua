-- wrk's side of the webhook benchmark: one signed body, and for every request a delivery id that was never used before.
-- Arguments: host and port, the file of the body, its signature, and what makes the ids of this visit its own.

local threads = 0

function setup(thread)
   threads = threads + 1
   thread:set("number", threads)
end

function init(args)
   local file = assert(io.open(args[2], "rb"))
   local body = file:read("*a")
   file:close()
   head = table.concat({
      "POST /hooks/github HTTP/1.1",
      "Host: " .. args[1],
      "Content-Type: application/json",
      "X-GitHub-Event: push",
      "X-Hub-Signature-256: " .. args[3],
      "Content-Length: " .. #body,
      "X-GitHub-Delivery: " .. args[4] .. "-" .. number .. "-",
   }, "\r\n")
   tail = "\r\n\r\n" .. body
   count = 0
end

function request()
   count = count + 1
   return head .. count .. tail
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      "RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(50), latency:percentile(99)
   ))
end
