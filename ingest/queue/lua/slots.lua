-- Forget the slots that have not been used for long: those of threads that are no more.
--
-- KEYS  1 slots        2... slots to look at
-- ARGV  1 ms without use after which a slot is forgotten
--
-- RETURN slots forgotten

local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local forgotten = 0
for at = 2, #KEYS do
    local slot = redis.call('GET', KEYS[at])
    if not slot or tonumber(string.match(slot, ' (%d+)')) < oldest then
        redis.call('DEL', KEYS[at])
        redis.call('SREM', KEYS[1], KEYS[at])
        forgotten = forgotten + 1
    end
end
return forgotten
