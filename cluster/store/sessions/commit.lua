-- Replaces a session, says what the change says and gives up the lock, in one step.
-- KEYS[1] = conclave:session:{id}          hash
-- KEYS[2] = conclave:session:{id}:outbox   stream
-- KEYS[3] = conclave:lock:{id}             string, the token of the lock's holder
-- KEYS[4] = conclave:session:{id}:watch    set, the nodes that want to be told
-- KEYS[5] = conclave:sessions:due          zset; left out where it is on another server, or is to stay as it is
-- ARGV[1] = version that the change was made from
-- ARGV[2] = token of the caller's lock
-- ARGV[3] = ms to keep the session from now on, 0 for ever
-- ARGV[4] = ms, the time after which it is too late; empty for never
-- ARGV[5] = the session's id in the due list
-- ARGV[6] = its score there, ms
-- ARGV[7] = number of messages, then recipient and frame of each, then field and value pairs of the session
-- When Redis is full: goes on
-- returns  {undelivered older messages, outbox id, ..., node that wants to be told, ...}; {} if the version has moved on, another holds the lock or it is too late
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then
  return {}
end
local holder = redis.call('GET', KEYS[3])
if holder and holder ~= ARGV[2] then
  return {}
end
if ARGV[4] ~= '' then
  local time = redis.call('TIME')
  if time[1] * 1000 + time[2] / 1000 > tonumber(ARGV[4]) then
    return {}
  end
end
local keep = tonumber(ARGV[3])
local messages = tonumber(ARGV[7])
local first = 8 + 2 * messages
redis.call('HDEL', KEYS[1], '') -- nothing, and not refused
-- A command may fail (a right was withdrawn, another type is at a key). Then what
-- was said is taken back, and the session is as it was.
local reply = {redis.call('XLEN', KEYS[2])}
local done, why = pcall(function()
  redis.call('HSET', KEYS[1], 'version', ARGV[1]) -- as it is: whether it can be written
  for i = 1, messages do
    reply[i + 1] = redis.call('XADD', KEYS[2], '*', 'to', ARGV[6 + 2 * i], 'message', ARGV[7 + 2 * i])
  end
  if KEYS[5] then
    redis.call('ZADD', KEYS[5], ARGV[6], ARGV[5])
  end
  redis.call('DEL', KEYS[1])
end)
if not done then
  for i = 2, #reply do
    redis.pcall('XDEL', KEYS[2], reply[i])
  end
  return type(why) == 'table' and why or redis.error_reply(tostring(why))
end
redis.call('HSET', KEYS[1], unpack(ARGV, first))
for _, node in ipairs(redis.call('SMEMBERS', KEYS[4])) do
  reply[#reply + 1] = node
end
if keep > 0 then
  redis.call('PEXPIRE', KEYS[1], keep)
  redis.call('PEXPIRE', KEYS[2], keep)
end
if holder then
  redis.call('DEL', KEYS[3])
end
return reply
