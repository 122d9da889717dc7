"""What a run will take: requests, memory, hours and money, before it is begun."""
