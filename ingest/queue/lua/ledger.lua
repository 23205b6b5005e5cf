-- Read the queue's part of a dataset's ledger, as of one moment.
--
-- RETURN {generation or '', accepted, queued, trimmed, replayed, entries}
--      replayed    which quarantine rows were replayed, as their numbers in ARGV; the first row has number 1
--      entries     the entries up to `last_id`, each as {origin, trace ID, number of records, stream ID, ID before the
--                  entry was renumbered or ''}. The origin is the stream ID before a replay, else the stream ID
--
-- There are few entries up to `last_id`, because a drain trims after each commit.

assert(#KEYS == 6 and #ARGV >= 1, 'ledger.lua: wrong number of KEYS or ARGV')
local generation_key, stream_key, accepted_key, queued_key, replayed_key, trimmed_key = unpack(KEYS)
local last_id = ARGV[1] -- the highest stream ID whose records may be in the table
local FIRST_ROW = 2 -- from here on, ARGV holds IDs of quarantine rows

local entries = {}
local from = '-'
while true do
    local page = redis.call('XRANGE', stream_key, from, last_id, 'COUNT', 500)
    for _, entry in ipairs(page) do
        local stream_id, names_and_values = unpack(entry)
        local fields = {}
        for at = 1, #names_and_values, 2 do
            fields[names_and_values[at]] = names_and_values[at + 1]
        end
        entries[#entries + 1] = {
            fields['o'] or stream_id,
            fields['t'] or '',
            tonumber(fields['n'] or '0'),
            stream_id,
            fields['r'] or '',
        }
    end
    if #page < 500 then
        break
    end
    from = '(' .. page[#page][1]
end
local replayed = {}
for at = FIRST_ROW, #ARGV do
    if redis.call('HEXISTS', replayed_key, ARGV[at]) == 1 then
        replayed[#replayed + 1] = at - FIRST_ROW + 1
    end
end
return {
    redis.call('GET', generation_key) or '',
    tonumber(redis.call('GET', accepted_key) or '0'),
    tonumber(redis.call('GET', queued_key) or '0'),
    redis.call('GET', trimmed_key) or '0',
    replayed,
    entries,
}
