-- Have a stream go on above a stream id, whatever the server's clock says.
--
-- KEYS  1 generation   2 stream
-- ARGV  1 generation   2, 3 the stream id: ms, sequence number
--
-- RETURN 1 if the stream's last id was lower, else 0

if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 0 then
    return 0
end
local about = redis.call('XINFO', 'STREAM', KEYS[2])
for at = 1, #about, 2 do
    if about[at] == 'last-generated-id' then
        local ms, seq = string.match(about[at + 1], '(%d+)-(%d+)')
        ms, seq = tonumber(ms), tonumber(seq)
        local least_ms, least_seq = tonumber(ARGV[2]), tonumber(ARGV[3])
        if ms < least_ms or (ms == least_ms and seq < least_seq) then
            redis.call('XSETID', KEYS[2], ARGV[2] .. '-' .. ARGV[3])
            return 1
        end
    end
end
return 0
