-- Notes a session as the open reshare of an active key, unless another is, and
-- reserves of its coordinator's quota what it may take. (After quota.lua.)
-- KEYS[1] = conclave:key:{id}            hash
-- KEYS[2] = conclave:quota:{user}        hash; this and the following are left out where they are on other servers
-- KEYS[3] = conclave:quota:{user}:open   hash
-- KEYS[4] = conclave:quota:{user}:keys   hash
-- ARGV[1] = the epoch that the key must be in
-- ARGV[2] = session id, and what reserve takes after it
-- When Redis is full: refused
-- returns  {seconds, microseconds, id of the session that is noted, ms since when, 1 if a reservation was made, "long" or "brief" for that session}; 0 if the key is not active or in another epoch; {"refused", …} as reserve does
local record = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'reshare', 'reshare_since')
if record[1] ~= 'active' or (record[2] or '1') ~= ARGV[1] then
  return 0
end
local time = redis.call('TIME')
local noted, since = record[3], record[4]
if noted and noted ~= ARGV[2] then
  return {time[1], time[2], noted, since or '0', 0, ''}
end
local granted = {'', 0, ''}
if KEYS[2] then
  granted = reserve(KEYS[2], KEYS[3], KEYS[4], {unpack(ARGV, 2)})
  if granted[1] == 'refused' then
    return granted
  end
end
if not noted then
  since = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  local version = redis.call('HGET', KEYS[1], 'version') or '0'
  redis.call('HSET', KEYS[1], 'reshare', ARGV[2], 'reshare_since', since, 'version', string.format('%.0f', version + 1))
end
return {time[1], time[2], ARGV[2], since or '0', granted[2], granted[3]}
