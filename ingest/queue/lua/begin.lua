-- Name the present set of Redis data, if it has no name yet.
--
-- KEYS  1 generation   2 data version   3 installation
-- ARGV  1 name of a new generation   2 data version of this release   3 id of this installation
--
-- RETURN the generation; false if the data has another version or belongs to another installation
--
-- All three are written in one step: a Redis that is wiped between two steps would be left with a generation alone, and
-- so look like the data of a release that did not write its version.

local seen = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
local generation, version, owner = seen[1], seen[2], seen[3]
if (version or ARGV[2]) ~= ARGV[2] or (owner or ARGV[3]) ~= ARGV[3] or (generation and not version) then
    return false
end
if not generation or not owner then
    generation = generation or ARGV[1]
    redis.call('MSET', KEYS[1], generation, KEYS[2], ARGV[2], KEYS[3], ARGV[3])
end
return generation
