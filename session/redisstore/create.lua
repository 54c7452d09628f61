-- Creates a session with its first messages, unless it exists.
-- KEYS[1] = conclave:session:{id}          hash
-- KEYS[2] = conclave:session:{id}:outbox   stream
-- KEYS[3] = conclave:sessions:due          zset; left out where it is on another server
-- ARGV[1] = ms, the time after which it is too late
-- ARGV[2] = the session's id in the due list
-- ARGV[3] = its score there, ms
-- ARGV[4] = number of messages, then recipient and frame of each, then field and value pairs of the session
-- returns  {1, outbox id, ...}; {} if the session exists; {0} if it is too late
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {}
end
local time = redis.call('TIME')
if time[1] * 1000 + time[2] / 1000 > tonumber(ARGV[1]) then
  return {0}
end
local messages = tonumber(ARGV[4])
local first = 5 + 2 * messages
if KEYS[3] then
  redis.call('ZADD', KEYS[3], ARGV[3], ARGV[2])
end
redis.call('HSET', KEYS[1], unpack(ARGV, first))
local reply = {1}
for i = 1, messages do
  reply[i + 1] = redis.call('XADD', KEYS[2], '*', 'to', ARGV[3 + 2 * i], 'message', ARGV[4 + 2 * i])
end
return reply
