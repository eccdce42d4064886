from derny.config import Limits as Limits, Periods as Periods
