-- append: add messages to one member's mailbox and hurry them to its socket.
-- (After usage.lua and generations.lua.)
--
-- KEYS[1] mailbox:{member}        stream
-- KEYS[2] seen:{member}           set, ids of messages
-- KEYS[3] seen:{member}:old       set, ids before those
-- KEYS[4] presence:{member}       hash
-- KEYS[5] mailbox:{member}:usage  hash, see usage.lua
-- KEYS[6] joined:{member}         string, there once the member has joined
-- KEYS[7] mailbox:{member}:generations  string, see generations.lua
-- ARGV[1] channel prefix to publish under, or '' to leave publishing to the caller
-- ARGV[2] most entries, ARGV[3] most bytes that the mailbox may hold
-- ARGV[4] its time to live, and that of seen, usage and generations, ms
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
-- When Redis is full: refused. What cannot be appended is not remembered as seen.
-- What fails after that (to publish, to keep the account, to renew the times to
-- live) is not the message's failure: it is said, and mended later.
-- Returns one value per message: its seq as a string when appended; 0 when that
-- id was appended before, or its group has ended; -1 when the mailbox is full,
-- -2 when its payer has used up its share, -3 when its payer has used up what it
-- may hold in one group, and so for every later message of the same Send. Then
-- how many entries the mailbox holds. Then, only when ARGV[1] is '': the node
-- and the connection that hold the member's socket, '' when it has none. Then, only
-- when something failed after a message was appended, what.
--
-- A payer may hold a quarter of the mailbox, the member itself three quarters;
-- and when three quarters are full, who holds more than 1/64 may not add. What
-- ends a group removes the group's other entries, unless there is a socket that
-- keeps up and will acknowledge them in a moment. Nor are so few entries counted
-- as such a socket has waiting: that would be a third of what an append costs.
--
-- Every message comes this way: each call of Redis here shows in what the
-- cluster carries.
local mailbox, seen, old, presence, usage, joined, generations = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
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

-- The numbers jump where another Redis gave those before.
local name, list = reign(), redis.call('GET', generations)
local jump = name ~= '-' and not (list and string.sub(list, 1, #name) == name)

local trouble
local function note_failure(why)
  trouble = trouble or type(why) == 'table' and why.err or tostring(why)
end

-- append_entry appends an entry and returns its id.
local function append_entry(...)
  local last, entry = 0, nil
  if jump then
    last = newest(mailbox)
  else
    entry = redis.call('XADD', mailbox, '0-*', ...)
    if entry ~= '0-1' then return entry end
    -- A new stream, whose predecessor may have expired. Its numbers start at the
    -- clock, in µs, and so above all that a client may have seen before.
  end
  local before = last > 0 and last or tonumber((string.match(list or '', '%d+$'))) or 0
  local start = first_of(before, last > 0)
  local added = redis.call('XADD', mailbox, '0-' .. text(start), ...)
  if entry then redis.call('XDEL', mailbox, entry) end
  jump, renew = false, true
  local kept, why = pcall(begin, generations, list, name, last, start)
  if not kept then note_failure(why) end
  return added
end

local out, refused, turn = {}, {}, false
local noted -- the id that this call has put into seen for what is not appended yet

-- take_message appends message i, if it may be, and returns what is said of it.
local function take_message(i)
  local id, payer, group, last_word, send, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3] == '1', ARGV[i + 4], ARGV[i + 5]
  if refused[send] then return refused[send] end -- nothing overtakes what was refused
  if id ~= '' then
    if redis.call('SADD', seen, id) == 0 then return 0 end
    noted = id
    if redis.call('SISMEMBER', old, id) == 1 then return 0 end
  end
  local r, link, cost = nil, last_word and 'end' or '', 0
  if account then
    local ended
    if group ~= '' and not last_word then link, ended = account.newest(group) end
    if ended then return 0 end
    local waste = 0
    if last_word and not (conn and account.entries <= 64 and account.bytes <= 1048576) then
      waste = account.remove(group)
      if waste > 0 then link = string.format('end %.0f', waste) end
    end
    cost = account.cost(#payload, waste)
    r = refusal(payer, group, last_word, cost)
  elseif len >= most then
    r = -1
  end
  if r then
    refused[send] = r
    if id ~= '' then redis.call('SREM', seen, id) end
    return r
  end
  r = string.sub(append_entry('payload', payload, 'payer', payer, 'group', group, 'link', link), 3)
  noted = nil -- it stays in seen, whatever fails from here on
  len = len + 1
  turn = turn or r % 64 == 0 -- seen need not be exact, and counting it costs
  if account then
    local kept, why = pcall(account.appended, r, payer, group, last_word, cost)
    if not kept then -- it is made anew from the entries
      note_failure(why)
      redis.pcall('DEL', usage)
      account = nil
    end
  end
  if node and channels ~= '' then
    local heard = redis.pcall('PUBLISH', channels .. node, 'm ' .. conn .. ' ' .. r .. ' ' .. sent .. ' ' .. payload)
    if type(heard) == 'table' then note_failure(heard) end
  end
  return r
end

for i = first, #ARGV, width do
  noted = nil
  local done, r = pcall(take_message, i)
  if not done then
    if noted then redis.pcall('SREM', seen, noted) end -- not one that was appended before
    return type(r) == 'table' and r or redis.error_reply(tostring(r))
  end
  out[#out + 1] = r
end

if account then len = account.entries end
local kept, why = pcall(function()
  if account then
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
    for _, key in ipairs({mailbox, seen, generations}) do redis.call('PEXPIRE', key, ttl) end
  end
  if account and (renew or account.fresh) then redis.call('PEXPIRE', usage, ttl) end
end)
if not kept then note_failure(why) end
out[#out + 1] = len
if channels == '' then
  out[#out + 1] = node or ''
  out[#out + 1] = conn or ''
end
if trouble then out[#out + 1] = trouble end
return out
