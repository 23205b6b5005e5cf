-- Delete the slots that no admission has used for `max_idle_ms`, for example those of processes that have ended.
--
-- RETURN how many slots were deleted

assert(#KEYS >= 1 and #ARGV == 1, 'forget_slots.lua: wrong number of KEYS or ARGV')
local slots_key = KEYS[1]
local FIRST_SLOT = 2 -- from here on, KEYS holds the slots that the script checks
local max_idle_ms = ARGV[1]

local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - max_idle_ms
local deleted = 0
for at = FIRST_SLOT, #KEYS do
    local slot_key = KEYS[at]
    local slot = redis.call('GET', slot_key)
    if not slot or tonumber(string.match(slot, ' (%d+)')) < oldest then
        redis.call('DEL', slot_key)
        redis.call('SREM', slots_key, slot_key)
        deleted = deleted + 1
    end
end
return deleted
