-- Send the requests of a file in turn, and report in one line of JSON.
-- REQUESTS: a file with HTTP/1.1 requests as they are sent, a NUL after each. All are made before the load begins, so
-- that sending one costs this program next to nothing.
-- One thread only: each thread would begin with the same request.

local requests, number = {}, 0

function init(_)
    local file = assert(io.open(os.getenv("REQUESTS"), "rb"))
    for each in file:read("*a"):gmatch("([^%z]+)%z") do requests[#requests + 1] = each end
    file:close()
end

function request()
    number = number + 1
    return requests[(number - 1) % #requests + 1]
end

function done(summary, latency, _)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "seconds": %.6f, "bytes": %d, "p50": %.1f, "p99": %.1f,'
        .. ' "connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}\n',
        summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
        errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
