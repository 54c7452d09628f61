-- clock: the time where a key is.
--
-- KEYS[1] presence:{member} or nodes  names the slot, is not read
--
-- When Redis is full: goes on, writes nothing.
-- Returns {seconds, microseconds}.
return redis.call('TIME')
