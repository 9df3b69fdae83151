-- Send the requests of a file in turn, and report in one line of JSON.
-- REQUESTS: a file with one path a line; START: how many of them to skip at first; TOKEN: the bearer token;
-- BODY: makes each a POST of it, with the request's number in the place of @; IF_NONE_MATCH: an entity tag.
-- One thread only: each thread would begin with the same request, and create the same product.

local paths, made, number = {}, {}, 0
local template = os.getenv("BODY")

function init(_)
    local headers = {["Accept"] = "*/*"}
    if os.getenv("TOKEN") then headers["Authorization"] = "Bearer " .. os.getenv("TOKEN") end
    if os.getenv("IF_NONE_MATCH") then headers["If-None-Match"] = os.getenv("IF_NONE_MATCH") end
    if template then headers["Content-Type"] = "application/json" end
    wrk.headers = headers
    for path in io.lines(os.getenv("REQUESTS")) do
        paths[#paths + 1] = path
        made[#made + 1] = wrk.format("GET", path)
    end
    number = tonumber(os.getenv("START") or "0")
end

function request()
    number = number + 1
    local place = (number - 1) % #paths + 1
    if template then
        local body = template:gsub("@", tostring(number))
        return wrk.format("POST", paths[place], nil, body)
    end
    return made[place]
end

function done(summary, latency, _)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "seconds": %.6f, "bytes": %d, "p50": %.1f, "p99": %.1f,'
        .. ' "connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}\n',
        summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
        errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
