-- wrk's script: send prepared requests in turn, beginning with a random one, and print how they were answered.
--
-- Environment
--      BENCH_REQUESTS  a file of lines: path, tab, token, tab, file with the body
--      BENCH_CHECK     if set, the script checks that every answer is 202, which is slower. If not, wrk itself counts the
--                      answers of 400 and above, and the caller counts the requests that the server has queued
--      BENCH_PAUSE_MS  if set, each connection waits after an answer: this number of ms on average
--
-- Prints one line: `BENCH {...}`, times in microseconds.

local requests, at, threads = {}, 0, {}
bad = 0

function setup(thread)
    table.insert(threads, thread)
end

function init()
    local bodies = {}
    for line in io.lines(os.getenv('BENCH_REQUESTS')) do
        local path, token, name = line:match('^([^\t]*)\t([^\t]*)\t(.*)$')
        if not bodies[name] then
            local file = assert(io.open(name, 'rb'))
            bodies[name] = file:read('*a')
            file:close()
        end
        local headers = { ['Content-Type'] = 'application/json', ['Authorization'] = 'Bearer ' .. token }
        requests[#requests + 1] = wrk.format('POST', path, headers, bodies[name])
    end
    math.randomseed(os.time())
    at = math.random(#requests)
    if os.getenv('BENCH_CHECK') then
        response = function(status)
            if status ~= 202 then
                bad = bad + 1
            end
        end
    end
    local pause = tonumber(os.getenv('BENCH_PAUSE_MS') or '')
    if pause then
        delay = function()
            return math.floor(pause * (0.5 + math.random()) + math.random())
        end
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local unexpected = summary.errors.status
    for _, thread in ipairs(threads) do
        unexpected = unexpected + thread:get('bad')
    end
    local broken = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    io.write(string.format(
        'BENCH {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"most":%d,"unexpected":%d,"broken":%d}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
        unexpected, broken
    ))
end
