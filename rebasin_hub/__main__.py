"""`python -m rebasin_hub` is `rebasin-hub`."""

from rebasin_hub.app import main

if __name__ == "__main__":
    main()
