-- join: make one connection the live socket of its member. (After mailbox.lua.)
--
-- KEYS[1] presence:{member}       hash
-- KEYS[2] mailbox:{member}        stream
-- KEYS[3] mailbox:{member}:usage  hash
-- KEYS[4] seen:{member}           set
-- KEYS[5] joined:{member}         string
-- ARGV[1] node, ARGV[2] conn, ARGV[3] role, ARGV[4] since (RFC 3339)
-- ARGV[5] the newest seq the client has received, 0 = none
-- ARGV[6] channel prefix to publish under, or '' to leave publishing to the caller
-- ARGV[7] ms, the time after which it is too late: the client has given this
--         connection up by then, and may have made another
-- ARGV[8] time to live of mailbox, usage and seen, ms, for what waited for a
--         member that had never joined
-- ARGV[9] time to live of joined, ms
-- ARGV[10] now (RFC 3339, by Redis's clock), for joined
--
-- When Redis is full: goes on.
-- Returns {} when it is too late, else {newest seq of the mailbox, 1 if it holds entries after ARGV[5] else 0,
-- node and conn of the socket that was live until now, '' when there was none}.
local presence, mailbox, usage, seen, joined = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local node, conn, role, since = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local after, channels = ARGV[5], ARGV[6]

local time = redis.call('TIME')
if time[1] * 1000 + time[2] / 1000 > tonumber(ARGV[7]) then return {} end

redis.call('HDEL', presence, '') -- nothing, and not refused
local last = raise(mailbox, usage, tonumber(after))
local waiting = #redis.call('XRANGE', mailbox, '(0-' .. after, '+', 'COUNT', 1)

local old = redis.call('HMGET', presence, 'node', 'conn')
redis.call('HSET', presence, 'node', node, 'conn', conn, 'role', role, 'since', since, 'seq', text(last))
redis.call('SET', joined, ARGV[10], 'PX', ARGV[9])
if redis.call('HDEL', usage, 'unseen') == 1 then
  -- What waited for a member that might not exist has found it.
  for _, key in ipairs({mailbox, usage, seen}) do redis.call('PEXPIRE', key, ARGV[8]) end
end
-- The same connection again is a repeated call whose first reply was lost.
if old[2] and old[2] ~= conn then
  if channels ~= '' then
    redis.call('PUBLISH', channels .. old[1], 's ' .. old[2])
  end
  return {text(last), waiting, old[1], old[2]}
end
return {text(last), waiting, '', ''}
