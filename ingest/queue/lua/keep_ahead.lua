-- Raise the last ID of a stream to at least the given ID, so that the next entry gets a higher ID, even if the server's
-- clock is behind.
--
-- RETURN 1 if the script has raised the last ID; 0 if it was high enough, there is no stream, or Redis has another
-- generation

assert(#KEYS == 2 and #ARGV == 3, 'keep_ahead.lua: wrong number of KEYS or ARGV')
local generation_key, stream_key = unpack(KEYS)
local generation, min_ms, min_sequence = unpack(ARGV)

if redis.call('GET', generation_key) ~= generation or redis.call('EXISTS', stream_key) == 0 then
    return 0
end
local about = redis.call('XINFO', 'STREAM', stream_key)
for at = 1, #about, 2 do
    if about[at] == 'last-generated-id' then
        local ms, sequence = string.match(about[at + 1], '(%d+)-(%d+)')
        ms, sequence = tonumber(ms), tonumber(sequence)
        if ms < tonumber(min_ms) or (ms == tonumber(min_ms) and sequence < tonumber(min_sequence)) then
            redis.call('XSETID', stream_key, min_ms .. '-' .. min_sequence)
            return 1
        end
    end
end
return 0
