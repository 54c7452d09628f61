-- append: add messages to one member's mailbox and hurry them to its socket.
--
-- KEYS[1] mailbox:{member}   stream
-- KEYS[2] seen:{member}      set, ids of messages
-- KEYS[3] seen:{member}:old  set, ids before those
-- KEYS[4] presence:{member}  hash
-- ARGV[1] channel prefix to publish under, or '' to leave publishing to the caller
-- ARGV[2] most entries the mailbox may hold
-- ARGV[3] time to live of mailbox and seen, ms
-- ARGV[4] how many ids seen holds, about, before it becomes the old one
-- ARGV[5] how many bytes of memory the mailbox may take, about
-- ARGV[6] 1 to renew the times to live, 0 where the caller has done so lately
-- ARGV[7] when they were sent, by Redis's clock as their node knows it, µs
-- ARGV[8..] for each message: its id ('' = none), its payload
--
-- When Redis is full: refused.
-- Returns one value per message: its seq as a string when appended; 0 when that
-- id was appended before; -1 when the mailbox is full (and so for every message
-- after it). Then how many entries the mailbox holds. Then, only when ARGV[1] is '': the node and the connection that
-- hold the member's socket, '' when it has none.
--
-- Every message comes this way: each call of Redis here shows in what the
-- cluster carries.
local mailbox, seen, old, presence = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local channels, most, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local keep, sent = tonumber(ARGV[4]), ARGV[7]

local where = redis.call('HMGET', presence, 'node', 'conn')
local node, conn = where[1], where[2]
local len = redis.call('XLEN', mailbox)
local out = {}
local renew = ARGV[6] == '1'
local full, turn = false, false

-- A few messages are never too many bytes, and most mailboxes hold few. A server
-- that cannot tell leaves the bound to the number of messages.
if len >= 32 then
  local bytes = redis.pcall('MEMORY', 'USAGE', mailbox)
  full = type(bytes) == 'number' and bytes > tonumber(ARGV[5])
end

for i = 8, #ARGV, 2 do
  local id, payload = ARGV[i], ARGV[i + 1]
  local r
  if id ~= '' and (redis.call('SADD', seen, id) == 0 or redis.call('SISMEMBER', old, id) == 1) then
    r = 0
  elseif full or len >= most then
    full, r = true, -1
    if id ~= '' then redis.call('SREM', seen, id) end
  else
    local entry = redis.call('XADD', mailbox, '0-*', 'payload', payload)
    if entry == '0-1' then
      -- A new stream, whose predecessor may have expired. Its numbers start at
      -- the clock, in ms, and so above all that a client may have seen before.
      local time = redis.call('TIME')
      local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
      entry = redis.call('XADD', mailbox, '0-' .. now, 'payload', payload)
      redis.call('XDEL', mailbox, '0-1')
      renew = true
    end
    r = string.sub(entry, 3)
    len = len + 1
    turn = turn or r % 64 == 0 -- seen need not be exact, and counting it costs
    if node and channels ~= '' then
      redis.call('PUBLISH', channels .. node, 'm ' .. conn .. ' ' .. r .. ' ' .. sent .. ' ' .. payload)
    end
  end
  out[#out + 1] = r
end

if turn and redis.call('SCARD', seen) >= keep then
  redis.call('RENAME', seen, old)
  redis.call('SADD', seen, '') -- no id: so that there is a set to live as long
  renew = true
end
if renew then
  redis.call('PEXPIRE', mailbox, ttl)
  redis.call('PEXPIRE', seen, ttl)
end
out[#out + 1] = len
if channels == '' then
  out[#out + 1] = node or ''
  out[#out + 1] = conn or ''
end
return out
