-- append: add messages to one member's mailbox and hurry them to its socket.
-- (After usage.lua.)
--
-- KEYS[1] mailbox:{member}        stream
-- KEYS[2] seen:{member}           set, ids of messages
-- KEYS[3] seen:{member}:old       set, ids before those
-- KEYS[4] presence:{member}       hash
-- KEYS[5] mailbox:{member}:usage  hash, see usage.lua
-- KEYS[6] joined:{member}         string, there once the member has joined
-- ARGV[1] channel prefix to publish under, or '' to leave publishing to the caller
-- ARGV[2] most entries, ARGV[3] most bytes that the mailbox may hold
-- ARGV[4] its time to live, and that of seen and usage, ms
-- ARGV[5] most entries, ARGV[6] most bytes, ARGV[7] time to live, ms, of the
--         mailbox of a member that has never joined
-- ARGV[8] most entries, ARGV[9] most bytes of one payer in one group
-- ARGV[10] time to live of joined, ms
-- ARGV[11] how many ids seen holds, about, before it becomes the old one
-- ARGV[12] 1 to renew the times to live, 0 where the caller has done so lately
-- ARGV[13] when they were sent, by Redis's clock as their node knows it, µs
-- ARGV[14] the member
-- ARGV[15] how many entries there must be in the mailbox of a member with a
--         socket before they are counted, if none has many bytes
-- ARGV[16..] for each message: its id ('' = none), payer ('' = none), group
--         ('' = none), 1 if it ends the group else 0, number of its Send, payload
--
-- When Redis is full: refused.
-- Returns one value per message: its seq as a string when appended; 0 when that
-- id was appended before, or its group has ended; -1 when the mailbox is full,
-- -2 when its payer has used up its share, -3 when its payer has used up what it
-- may hold in one group, and so for every later message of the same Send. Then
-- how many entries the mailbox holds. Then, only when ARGV[1] is '': the node
-- and the connection that hold the member's socket, '' when it has none.
--
-- A payer may hold a quarter of the mailbox, the member itself three quarters;
-- and when three quarters are full, who holds more than 1/64 may not add. What
-- ends a group removes the group's other entries, unless there is a socket that
-- keeps up and will acknowledge them in a moment. Nor are so few entries counted
-- as such a socket has waiting: that would be a third of what an append costs.
--
-- Every message comes this way: each call of Redis here shows in what the
-- cluster carries.
local mailbox, seen, old, presence, usage, joined = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local channels, sent, member = ARGV[1], ARGV[13], ARGV[14]
local most, room, ttl = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local first, width = 16, 6

local where = redis.call('HMGET', presence, 'node', 'conn')
local node, conn = where[1], where[2]
local len = redis.call('XLEN', mailbox)
local renew = ARGV[12] == '1'

-- The mailbox of a member that was never here is smaller and lives for less. A
-- mailbox that is not marked so is one of an older version, or was read.
local unseen = false
if not conn and redis.call('EXISTS', joined) == 0 then
  if redis.call('EXISTS', mailbox) == 0 or redis.call('HEXISTS', usage, 'unseen') == 1 then
    unseen, renew = true, true
    most, room, ttl = math.min(most, ARGV[5]), math.min(room, ARGV[6]), ARGV[7]
  else
    redis.call('SET', joined, '', 'PX', ARGV[10])
  end
end

local counted, last_words = not conn or len >= tonumber(ARGV[15]), false
for i = first, #ARGV, width do
  last_words = last_words or ARGV[i + 3] == '1'
  counted = counted or #ARGV[i + 5] > 8192
end
-- A socket that leaves large messages unread does not keep up, however few.
if last_words and not counted then
  counted = tonumber(redis.call('HGET', usage, 'bytes') or 0) > 1048576
end
local account
if counted then
  account = account_of(mailbox, usage)
  local list = {}
  for i = first, #ARGV, width do
    list[#list + 1] = ARGV[i + 1]
    list[#list + 1] = ARGV[i + 2]
  end
  account.load(len, list)
end

-- refusal returns why a message may not be added, nil if it may.
local function refusal(payer, group, last_word, cost)
  if account.entries >= most or account.bytes + cost > room then return -1 end
  if payer == '' then return nil end
  local n, held = account.held(payer)
  local share = payer == member and 3 / 4 or 1 / 4
  if n >= most * share or held + cost > room * share then return -2 end
  local crowded = account.entries > most * 3 / 4 or account.bytes > room * 3 / 4
  if crowded and (n > most / 64 or held > room / 64) then return -1 end
  if group == '' or last_word then return nil end
  n, held = account.held(payer, group)
  if n >= tonumber(ARGV[8]) or held + cost > tonumber(ARGV[9]) then return -3 end
end

local out, refused, turn = {}, {}, false
for i = first, #ARGV, width do
  local id, payer, group, last_word, send, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3] == '1', ARGV[i + 4], ARGV[i + 5]
  local r, link, cost = refused[send], last_word and 'end' or '', 0
  if r then
    -- nothing overtakes what was refused
  elseif id ~= '' and (redis.call('SADD', seen, id) == 0 or redis.call('SISMEMBER', old, id) == 1) then
    r = 0
  elseif account then
    local ended
    if group ~= '' and not last_word then link, ended = account.newest(group) end
    if ended then
      r = 0
    else
      local waste = 0
      if last_word and not (conn and account.entries <= 64 and account.bytes <= 1048576) then
        waste = account.remove(group)
        if waste > 0 then link = string.format('end %.0f', waste) end
      end
      cost = account.cost(#payload, waste)
      r = refusal(payer, group, last_word, cost)
      if r then
        refused[send] = r
        if id ~= '' then redis.call('SREM', seen, id) end
      end
    end
  elseif len >= most then
    r = -1
    refused[send] = r
    if id ~= '' then redis.call('SREM', seen, id) end
  end
  if not r then
    local entry = redis.call('XADD', mailbox, '0-*', 'payload', payload, 'payer', payer, 'group', group, 'link', link)
    if entry == '0-1' then
      -- A new stream, whose predecessor may have expired. Its numbers start at
      -- the clock, in ms, and so above all that a client may have seen before.
      local time = redis.call('TIME')
      local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
      entry = redis.call('XADD', mailbox, '0-' .. now, 'payload', payload, 'payer', payer, 'group', group, 'link', link)
      redis.call('XDEL', mailbox, '0-1')
      renew = true
    end
    r = string.sub(entry, 3)
    len = len + 1
    turn = turn or r % 64 == 0 -- seen need not be exact, and counting it costs
    if account then account.appended(r, payer, group, last_word, cost) end
    if node and channels ~= '' then
      redis.call('PUBLISH', channels .. node, 'm ' .. conn .. ' ' .. r .. ' ' .. sent .. ' ' .. payload)
    end
  end
  out[#out + 1] = r
end

if account then
  len = account.entries
  if len > 0 then
    account.save(unseen)
  else
    redis.call('DEL', usage)
    if unseen and redis.call('EXISTS', mailbox) == 1 then redis.call('HSET', usage, 'unseen', '1') end
  end
end
if turn and redis.call('SCARD', seen) >= tonumber(ARGV[11]) then
  redis.call('RENAME', seen, old)
  redis.call('SADD', seen, '') -- no id: so that there is a set to live as long
  renew = true
end
if renew then
  redis.call('PEXPIRE', mailbox, ttl)
  redis.call('PEXPIRE', seen, ttl)
end
if account and (renew or account.fresh) then redis.call('PEXPIRE', usage, ttl) end
out[#out + 1] = len
if channels == '' then
  out[#out + 1] = node or ''
  out[#out + 1] = conn or ''
end
return out
