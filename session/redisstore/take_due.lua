-- Takes sessions that are due and puts each off, so that no other node takes it
-- meanwhile.
-- KEYS[1] = conclave:sessions:due   zset, scores in ms, microseconds behind the point
-- ARGV[1] = most to take
-- ARGV[2] = ms to put them off
-- returns  {score that they have now, session id, ...}; {} if none is due
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.3f', now), 'LIMIT', 0, ARGV[1])
if #ids == 0 then
  return {}
end
local hold = string.format('%.3f', now + tonumber(ARGV[2])) -- a number would lose digits on its way
local reply = {hold}
for i, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], hold, id)
  reply[i + 1] = id
end
return reply
