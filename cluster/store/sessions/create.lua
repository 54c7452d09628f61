-- Creates a session with its first messages, unless it exists.
-- KEYS[1] = conclave:session:{id}          hash
-- KEYS[2] = conclave:session:{id}:outbox   stream
-- KEYS[3] = conclave:sessions:due          zset; this and the following are left out where they are on other servers
-- KEYS[4] = conclave:index:{user}:sessions zset, of each user involved
-- ARGV[1] = ms, the time after which it is too late
-- ARGV[2] = the session's id in the lists
-- ARGV[3] = its score in the due list, ms
-- ARGV[4] = its score, ms of its creation, in the users' lists
-- ARGV[5] = ms that these live on
-- ARGV[6] = the score before which no session listed there can exist any more
-- ARGV[7] = number of messages, then recipient and frame of each, then field and value pairs of the session
-- When Redis is full: refused
-- returns  {1, outbox id, ...}; {} if the session exists; {0} if it is too late
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {}
end
local time = redis.call('TIME')
if time[1] * 1000 + time[2] / 1000 > tonumber(ARGV[1]) then
  return {0}
end
local messages = tonumber(ARGV[7])
local first = 8 + 2 * messages
for i = 4, #KEYS do
  index(KEYS[i], ARGV[2], ARGV[4], ARGV[5], ARGV[6])
end
if KEYS[3] then
  redis.call('ZADD', KEYS[3], ARGV[3], ARGV[2])
end
-- The session last: what is there without it is nobody's, and is taken back.
local reply = {1}
local done, why = pcall(function()
  for i = 1, messages do
    reply[i + 1] = redis.call('XADD', KEYS[2], '*', 'to', ARGV[6 + 2 * i], 'message', ARGV[7 + 2 * i])
  end
  redis.call('HSET', KEYS[1], unpack(ARGV, first))
end)
if not done then
  redis.pcall('DEL', KEYS[2])
  return type(why) == 'table' and why or redis.error_reply(tostring(why))
end
return reply
