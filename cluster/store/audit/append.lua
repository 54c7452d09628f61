-- Appends a batch of entries to the audit, if they follow its last entry.
--
-- KEYS[1] = conclave:audit                    stream
-- KEYS[2] = conclave:audited:{conclave:audit} zset, batches and session ends that are in it, by ms
-- ARGV[1] = hash that the first of the entries follows
-- ARGV[2] = the batch's name; empty only to ask for the last entry
-- ARGV[3] = how many names to keep in KEYS[2]
-- ARGV[4] = ..., for each entry: the name under which it may come once, or
--           empty; how many texts follow; names and texts of its fields
-- When Redis is full: goes on.
-- returns  {status, n and hash of the last entry, seconds, microseconds, ...} with the status
--          0 nothing was done, they do not follow the last entry
--          1 they were appended
--          2 they had been appended before (n and hash are then only today's)
--          3 nothing was done, some are there already: their places in the batch follow
--          4 nothing was done, the last hundred of the stream are no entries
local stream, audited = KEYS[1], KEYS[2]
local follows, batch, keep = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

-- What is no entry is passed over, so that nobody can silence the audit by
-- putting something there; those who verify it find it.
local function last()
  local found
  for _, count in ipairs({1, 100}) do
    found = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', count)
    for _, entry in ipairs(found) do
      local n, hash
      for i = 1, #entry[2], 2 do
        if entry[2][i] == 'n' then n = entry[2][i + 1] end
        if entry[2][i] == 'hash' then hash = entry[2][i + 1] end
      end
      if n and hash and #n < 19 and string.match(n, '^%d+$') and #hash == 64 and string.match(hash, '^[0-9a-f]+$') then
        return n, hash
      end
    end
  end
  if #found > 0 then
    return nil
  end
  return '0', string.rep('0', 64)
end

local n, hash = last()
if not n then
  return {4, '0', '', time[1], time[2]}
end
local reply = {0, n, hash, time[1], time[2]}
if batch == '' then
  return reply
end
if redis.call('ZSCORE', audited, batch) then
  reply[1] = 2
  return reply
end
if hash ~= follows then
  return reply
end
local at, place = 4, 0
while at <= #ARGV do
  place = place + 1
  if ARGV[at] ~= '' and redis.call('ZSCORE', audited, ARGV[at]) then
    redis.call('ZREM', audited, '') -- nothing, and not refused
    redis.call('ZADD', audited, now, ARGV[at]) -- who asks again may do so once more
    reply[1] = 3
    reply[#reply + 1] = place
  end
  at = at + 2 + tonumber(ARGV[at + 1])
end
if reply[1] == 3 then
  return reply
end
redis.call('ZREMRANGEBYRANK', audited, 0, -(keep + 1)) -- first, so that the rest is not refused
-- A command may fail (a right was withdrawn). Then the entries and their names are
-- taken back: one of the two without the other would be repeated, or missing.
local entries, names = {}, {}
local done, why = pcall(function()
  at = 4
  while at <= #ARGV do
    local first, size = at + 2, tonumber(ARGV[at + 1])
    entries[#entries + 1] = redis.call('XADD', stream, '*', unpack(ARGV, first, first + size - 1))
    if ARGV[at] ~= '' then
      redis.call('ZADD', audited, now, ARGV[at])
      names[#names + 1] = ARGV[at]
    end
    at = first + size
  end
  redis.call('ZADD', audited, now, batch)
end)
if not done then
  for _, entry in ipairs(entries) do redis.pcall('XDEL', stream, entry) end
  for _, name in ipairs(names) do redis.pcall('ZREM', audited, name) end
  return type(why) == 'table' and why or redis.error_reply(tostring(why))
end
reply[1] = 1
return reply
