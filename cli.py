"""Run the program from a checkout: `python cli.py canonicalize model.safetensors`."""

from rebasin_hub.app import main

if __name__ == "__main__":
    main()
