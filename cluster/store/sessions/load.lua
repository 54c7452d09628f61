-- Loads a session together with the time.
-- KEYS[1] = conclave:session:{id}   hash
-- When Redis is full: goes on, writes nothing
-- returns  {seconds, microseconds, field, value, ...}; only the time if there is no such session
local time = redis.call('TIME')
local reply = {time[1], time[2]}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields do
  reply[i + 2] = fields[i]
end
return reply
