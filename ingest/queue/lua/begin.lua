-- Give the present set of Redis data a name, its generation, if it has none yet.
--
-- RETURN the generation; false if the data has another version or belongs to another installation
--
-- The script writes all three keys in one step. If Redis was wiped between two steps, only the generation would be
-- there, and the data would look as if an early release, which wrote no version, had written it.

assert(#KEYS == 3 and #ARGV == 3, 'begin.lua: wrong number of KEYS or ARGV')
local generation_key, version_key, owner_key = unpack(KEYS)
local new_generation, our_version, our_installation = unpack(ARGV)

local generation, version, owner = unpack(redis.call('MGET', generation_key, version_key, owner_key))
if (version or our_version) ~= our_version or (owner or our_installation) ~= our_installation then
    return false
end
if generation and not version then
    return false
end
if not generation or not owner then
    generation = generation or new_generation
    redis.call('MSET', generation_key, generation, version_key, our_version, owner_key, our_installation)
end
return generation
