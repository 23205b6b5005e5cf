-- The queue's side of a dataset's ledger, at one moment.
--
-- KEYS  1 generation   2 stream   3 accepted   4 queued   5 replayed
-- ARGV  1 last stream id that is in the table   2... ids of quarantine rows
--
-- RETURN {generation or '', accepted, queued beyond that stream id, positions in ARGV (from 1) of rows replayed}
--
-- Entries that are in the table and not yet trimmed are few: a drain trims after each commit.

local untrimmed = 0
local from = '-'
while true do
    local entries = redis.call('XRANGE', KEYS[2], from, ARGV[1], 'COUNT', 500)
    for _, entry in ipairs(entries) do
        for at = 1, #entry[2], 2 do
            if entry[2][at] == 'n' then
                untrimmed = untrimmed + tonumber(entry[2][at + 1])
            end
        end
    end
    if #entries < 500 then
        break
    end
    from = '(' .. entries[#entries][1]
end
local replayed = {}
for at = 2, #ARGV do
    if redis.call('HEXISTS', KEYS[5], ARGV[at]) == 1 then
        replayed[#replayed + 1] = at - 1
    end
end
return {
    redis.call('GET', KEYS[1]) or '',
    tonumber(redis.call('GET', KEYS[3]) or '0'),
    tonumber(redis.call('GET', KEYS[4]) or '0') - untrimmed,
    replayed,
}
