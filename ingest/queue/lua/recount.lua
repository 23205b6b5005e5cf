-- Count as accepted the records that the table has and this Redis does not know, because it was restored from an older
-- copy.
--
-- RETURN 1; 0 if another drain has changed `trimmed_key` in the meantime, or if Redis has another generation

assert(#KEYS == 4 and #ARGV == 4, 'recount.lua: wrong number of KEYS or ARGV')
local generation_key, accepted_key, total_accepted_key, trimmed_key = unpack(KEYS)
local generation,
    trimmed, -- the value of `trimmed_key` that the drain has read; 0 if there was none
    records, -- number of records to count, may be 0
    position -- the table's watermark
    = unpack(ARGV)

if redis.call('GET', generation_key) ~= generation or (redis.call('GET', trimmed_key) or '0') ~= trimmed then
    return 0
end
redis.call('INCRBY', accepted_key, records)
redis.call('INCRBY', total_accepted_key, records)
redis.call('SET', trimmed_key, position)
return 1
