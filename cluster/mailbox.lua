-- mailbox: what join.lua and read.lua share; it stands before each of them.

-- newest returns the highest seq the stream ever gave, 0 when there is no stream.
local function newest(mailbox)
  if redis.call('EXISTS', mailbox) == 0 then return 0 end
  local info = redis.call('XINFO', 'STREAM', mailbox)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      return tonumber(string.match(info[i + 1], '%-(%d+)$')) or 0
    end
  end
  return 0
end

local function text(seq) return string.format('%.0f', seq) end

-- raise makes the numbers go on after seq where the stream is behind it: Redis
-- has lost what it had confirmed. What the stream still holds cannot be told
-- from what is new, so all of it is numbered again, to be delivered. The next
-- append counts it again. Returns the newest seq.
local function raise(mailbox, usage, seq)
  local last = newest(mailbox)
  if last == 0 or last >= seq then return last end
  local entries, number = redis.call('XRANGE', mailbox, '-', '+'), {}
  redis.call('XADD', mailbox, '0-' .. text(seq), 'payload', '')
  for i, entry in ipairs(entries) do
    number[string.sub(entry[1], 3)] = text(seq + i)
    local fields = entry[2]
    -- An entry's link is the seqs of others, see usage.lua.
    if fields[8] and string.match(fields[8], '^%d') then fields[8] = string.gsub(fields[8], '%d+', number) end
    redis.call('XADD', mailbox, '0-' .. text(seq + i), unpack(fields))
  end
  redis.call('XTRIM', mailbox, 'MINID', '0-' .. text(seq + 1))
  redis.call('HDEL', usage, 'entries')
  return seq + #entries
end

